"""The simulated CPU: EREPORT and EGETKEY with key separation as the SDM describes it.

Callers are named by the identity that was recorded when they were launched; this module never takes a
caller's word. Keys are HMAC-SHA-256 over all that the hardware's key derivation depends on, under a fuse
key that stays here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, replace
from typing import Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.formats.framing import lp
from enclave_cc.formats.sgx.keys import KeyName, KeyPolicy, KeyRequest
from enclave_cc.formats.sgx.report import Attribute, Report, ReportBody, TargetInfo, report_mac

_DOMAIN: Final = b"enclave-cc simulated SGX key dependencies v1"
_KEY_BYTES: Final = 16
_KSS_POLICY: Final = (
    KeyPolicy.NOISVPRODID | KeyPolicy.CONFIGID | KeyPolicy.ISVFAMILYID | KeyPolicy.ISVEXTPRODID
)
# SDM, EGETKEY: these flags enter every seal key whatever the mask says.
_ALWAYS_KEPT: Final = Attribute.INIT | Attribute.DEBUG
_XFRM_ALWAYS_KEPT: Final = 3


@dataclass(frozen=True, slots=True)
class SimulatedCpu:
    """One processor. `report_key_id` changes with every start, as CR_REPORT_KEYID does at every reset."""

    fuse_key: bytes
    report_key_id: bytes
    cpu_svn: bytes = bytes([1] * 16)

    def __repr__(self) -> str:
        return "<SimulatedCpu>"

    def report(self, identity: ReportBody, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT by the enclave with this identity."""
        body = replace(identity, cpu_svn=self.cpu_svn, report_data=report_data)
        key = self._report_key(target, self.report_key_id)
        return Report(body, self.report_key_id, report_mac(body, key))

    def get_key(self, identity: ReportBody, request: KeyRequest) -> bytes:
        """EGETKEY by the enclave with this identity: REPORT and SEAL keys, RefusedError for any other."""
        match request.key_name:
            case KeyName.REPORT:
                return self._report_key(TargetInfo.of(identity), request.key_id)
            case KeyName.SEAL:
                return self._seal_key(identity, request)
            case _:
                raise _refused("SGX_INVALID_KEYNAME")

    def _report_key(self, target: TargetInfo, key_id: bytes) -> bytes:
        return self._derive(KeyName.REPORT, target.pack(), key_id, self.cpu_svn)

    def _seal_key(self, identity: ReportBody, request: KeyRequest) -> bytes:
        self._check_seal_request(identity, request)
        policy = KeyPolicy(request.key_policy)
        flags = identity.flags & (request.flags_mask | _ALWAYS_KEPT)
        xfrm = identity.xfrm & (request.xfrm_mask | _XFRM_ALWAYS_KEPT)
        with_config = KeyPolicy.CONFIGID in policy
        return self._derive(
            KeyName.SEAL,
            struct.pack("<H", policy),
            struct.pack("<QQQQ", flags, xfrm, request.flags_mask, request.xfrm_mask),
            struct.pack("<II", identity.misc_select & request.misc_mask, request.misc_mask),
            identity.mr_enclave if KeyPolicy.MRENCLAVE in policy else b"",
            identity.mr_signer if KeyPolicy.MRSIGNER in policy else b"",
            struct.pack("<H", 0 if KeyPolicy.NOISVPRODID in policy else identity.isv_prod_id),
            struct.pack("<HH", request.isv_svn, request.config_svn if with_config else 0),
            identity.config_id if with_config else b"",
            identity.isv_family_id if KeyPolicy.ISVFAMILYID in policy else b"",
            identity.isv_ext_prod_id if KeyPolicy.ISVEXTPRODID in policy else b"",
            request.key_id,
            request.cpu_svn,
        )

    def _check_seal_request(self, identity: ReportBody, request: KeyRequest) -> None:
        """No key of a newer version than the caller's, and KSS policies only for KSS enclaves."""
        if request.isv_svn > identity.isv_svn:
            raise _refused("SGX_INVALID_ISVSVN")
        if request.config_svn > identity.config_svn:
            raise _refused("SGX_INVALID_CONFIGSVN")
        if any(asked > own for asked, own in zip(request.cpu_svn, self.cpu_svn, strict=True)):
            raise _refused("SGX_INVALID_CPUSVN")
        if request.key_policy & _KSS_POLICY and not identity.flags & Attribute.KSS:
            raise _refused("SGX_INVALID_ATTRIBUTE")

    def _derive(self, name: KeyName, *dependencies: bytes) -> bytes:
        message = lp(_DOMAIN, struct.pack("<H", name), *dependencies)
        return hmac.digest(self.fuse_key, message, hashlib.sha256)[:_KEY_BYTES]


def _refused(rule: str) -> RefusedError:
    return RefusedError(
        "platform-request-refused",
        "the simulated processor refused a request",
        stage=Stage.PLATFORM,
        detail=rule,
    )
