"""A whole simulated SGX machine in memory, without daemon or files; its collateral misbehaves on request."""

from __future__ import annotations

import datetime as dt

from cryptography.hazmat.primitives import serialization

from enclave_cc.formats.dcap import SimulatedRoot, verify_quote
from enclave_cc.formats.sgx import ReportBody
from enclave_cc.formats.sgx.keys import KeyName, KeyRequest
from enclave_cc.formats.sgx.report import Attribute
from enclave_cc.platform.port import Tee
from enclave_cc.platform.simulated.collateral import INTEROP, CollateralFaults, sign_collateral
from enclave_cc.platform.simulated.pki import SimulatedPki
from enclave_cc.platform.simulated.processor import SimulatedCpu
from enclave_cc.platform.simulated.quoting import QuotingEnclave

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
IDENTITY = ReportBody(
    flags=Attribute.INIT | Attribute.MODE64 | Attribute.KSS | Attribute.DEBUG,
    mr_enclave=b"E" * 32,
    mr_signer=b"S" * 32,
    isv_prod_id=1,
    isv_svn=1,
)


class Machine:
    """Processor, PKI and quoting enclave of one machine."""

    def __init__(self, *, fuse_key=b"f" * 32, now=NOW, interop=False):
        self.now = now
        self.interop = interop
        self.cpu = SimulatedCpu(fuse_key, b"K" * 32)
        self._kept = {}
        self.pki = SimulatedPki(self._keep, now=now, interop=interop)
        self.quoting = QuotingEnclave(self.cpu, self.pki)
        self.root = SimulatedRoot(self.pki.root.der)

    @property
    def pck_key(self):
        return serialization.load_der_private_key(self._kept["pck.key"], password=None)

    def _keep(self, name, create):
        if name not in self._kept:
            self._kept[name] = create()
        return self._kept[name]

    def quote(self, identity=IDENTITY, report_data=b"r" * 64):
        report = self.cpu.report(identity, self.quoting.target_info, report_data)
        return self.quoting.quote(report)

    def collateral(self, faults=None, now=None):
        default = INTEROP if self.interop else CollateralFaults()
        return sign_collateral(self.pki, now or self.now, faults or default)

    def verify(self, quote=None, collateral=None, *, root=None, now=None):
        return verify_quote(
            quote or self.quote(), collateral or self.collateral(), root or self.root, now or self.now
        )


class InMemoryProcessor:
    """The `Processor` port for one identity on one machine's CPU."""

    tee = Tee.SGX_SIM

    def __init__(self, machine, identity=IDENTITY, initdata=b""):
        self._machine = machine
        self._identity = identity
        self._initdata = initdata

    def identity(self):
        return self._identity

    def measured_initdata(self):
        return self._initdata

    def report(self, target, report_data):
        return self._machine.cpu.report(self._identity, target, report_data)

    def report_key(self, key_id):
        request = KeyRequest(KeyName.REPORT, key_id=key_id)
        return self._machine.cpu.get_key(self._identity, request)

    def quote(self, report_data):
        return self._machine.quote(self._identity, report_data)
