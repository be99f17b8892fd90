"""A broker on a loopback socket, and a simulated platform that signs whatever a test asks for."""

from __future__ import annotations

import base64
import datetime as dt
import os
import threading
import time
from dataclasses import dataclass, field, replace

import pytest

from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.sgx.report import Attribute, ReportBody
from enclave_cc.platform.simulated.collateral import sign_collateral
from enclave_cc.platform.simulated.pki import SimulatedPki
from enclave_cc.platform.simulated.processor import SimulatedCpu
from enclave_cc.platform.simulated.quoting import QuotingEnclave
from enclave_cc.transport.kbs import KbsClient
from enclave_cc.trustee.admin_client import AdminClient
from enclave_cc.trustee.broker.init import init_broker
from enclave_cc.trustee.broker.server import BrokerServer
from enclave_cc.trustee.broker.settings import BrokerSettings
from enclave_cc.trustee.policy.library import default_text

MEASUREMENT = bytes(range(32))
URI = ResourceUri.parse("kbs:///default/key/1")


class Keys:
    """A key store in memory."""

    def __init__(self):
        self._kept = {}

    def __call__(self, name, create):
        if name not in self._kept:
            self._kept[name] = create()
        return self._kept[name]


@dataclass
class Platform:
    """A simulated platform whose enclaves have the identity that the test gives them."""

    pki: SimulatedPki
    cpu: SimulatedCpu
    quoting: QuotingEnclave
    identity: ReportBody = field(
        default_factory=lambda: ReportBody(
            flags=Attribute.INIT | Attribute.MODE64 | Attribute.DEBUG,
            mr_enclave=MEASUREMENT,
            mr_signer=bytes(32),
            isv_prod_id=1,
            isv_svn=0,
        )
    )

    @classmethod
    def make(cls):
        pki = SimulatedPki(Keys(), now=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
        cpu = SimulatedCpu(fuse_key=os.urandom(32), report_key_id=os.urandom(32))
        return cls(pki, cpu, QuotingEnclave(cpu, pki))

    def collateral(self):
        return sign_collateral(self.pki, dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1))

    def with_identity(self, **changes):
        return replace(self, identity=replace(self.identity, **changes))

    def evidence(self, report_data):
        report = self.cpu.report(self.identity, self.quoting.target_info, report_data.ljust(64, b"\0"))
        return {"quote": base64.b64encode(self.quoting.quote(report)).decode()}


@dataclass
class RunningBroker:
    """What a test needs to talk to a broker."""

    url: str
    ca_pem: str
    token_key: str
    admin_token: str
    platform: Platform
    settings: BrokerSettings

    def admin(self):
        return AdminClient(self.url, self.admin_token, self.ca_pem)

    def client(self, platform=None, **options):
        defaults = {
            "tee": "sgx-sim",
            "evidence": (platform or self.platform).evidence,
            "ca_pem": self.ca_pem,
            "token_key": self.token_key,
            "request_id": fresh_request_id(),
        }
        return KbsClient(self.url, **(defaults | options))


@pytest.fixture(scope="session")
def platform():
    return Platform.make()


@pytest.fixture
def broker_settings(tmp_path, platform):
    (tmp_path / "root.der").write_bytes(platform.pki.root.der)
    (tmp_path / "collateral.json").write_bytes(platform.collateral().to_json())
    files = init_broker(
        tmp_path / "broker",
        "127.0.0.1",
        0,
        ["127.0.0.1"],
        insecure_simulation_root=tmp_path / "root.der",
        insecure_simulation_collateral=str(tmp_path / "collateral.json"),
    )
    return files, BrokerSettings.load(files.config)


@pytest.fixture
def broker(broker_settings, platform):
    files, settings = broker_settings
    ready = threading.Event()
    urls = []

    def tell(url):
        urls.append(url)
        ready.set()

    server = BrokerServer(settings, tell)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    yield RunningBroker(
        url=urls[0],
        ca_pem=files.tls_ca.read_text(),
        token_key=files.token_public_key.read_text(),
        admin_token=files.admin_token.read_text(),
        platform=platform,
        settings=settings,
    )
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def open_broker(broker):
    """A broker that knows the platform's enclave, keeps a secret, and releases to simulated enclaves."""
    with broker.admin() as admin:
        admin.put_resource(URI, b"the key")
        admin.add_reference_value("sgx_mr_enclave", MEASUREMENT.hex())
        admin.add_reference_value("sgx_isv_prod_id", 1)
        admin.set_resource_policy(default_text("insecure_simulation_resource.rego"))
    return broker


@pytest.fixture
def wait_until():
    def wait(condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait
