"""REPORTBODY, REPORT and TARGETINFO: what an enclave says about itself to another one on the same machine.

Layouts: Intel SDM volume 3D (REPORT, TARGETINFO) and `sgx_report.h` of the Intel SGX SDK. All integers are
little-endian. This module must not decide whether an identity is a good one.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from enclave_cc.formats.sgx.structure import (
    InvalidStructureError,
    require_length,
    require_unsigned,
    require_zero,
)

_BODY = struct.Struct("<16sI12s16sQQ32s32s32s32s64sHHH42s16s64s")
_TARGET = struct.Struct("<32sQQ2sHI8s64s384s")
BODY_BYTES: Final = _BODY.size
REPORT_BYTES: Final = BODY_BYTES + 32 + 16
TARGET_INFO_BYTES: Final = _TARGET.size
REPORT_DATA_BYTES: Final = 64


class Attribute(IntFlag):
    """Bits of ATTRIBUTES.flags that this project names."""

    INIT = 0x1
    DEBUG = 0x2
    MODE64 = 0x4
    PROVISION_KEY = 0x10
    EINITTOKEN_KEY = 0x20
    CET = 0x40
    KSS = 0x80
    AEX_NOTIFY = 0x400


@dataclass(frozen=True, slots=True)
class ReportBody:
    """REPORTBODY, 384 bytes: an enclave's identity and the 64 bytes it wants to have said."""

    cpu_svn: bytes = bytes(16)
    misc_select: int = 0
    isv_ext_prod_id: bytes = bytes(16)
    flags: int = Attribute.INIT | Attribute.MODE64
    xfrm: int = 3
    mr_enclave: bytes = bytes(32)
    mr_signer: bytes = bytes(32)
    config_id: bytes = bytes(64)
    isv_prod_id: int = 0
    isv_svn: int = 0
    config_svn: int = 0
    isv_family_id: bytes = bytes(16)
    report_data: bytes = bytes(64)

    def __post_init__(self) -> None:
        require_length(self.cpu_svn, 16, "cpu_svn")
        require_length(self.isv_ext_prod_id, 16, "isv_ext_prod_id")
        require_length(self.mr_enclave, 32, "mr_enclave")
        require_length(self.mr_signer, 32, "mr_signer")
        require_length(self.config_id, 64, "config_id")
        require_length(self.isv_family_id, 16, "isv_family_id")
        require_length(self.report_data, REPORT_DATA_BYTES, "report_data")

    @property
    def debug(self) -> bool:
        """Whether the owner of the machine may read this enclave's memory with a debugger."""
        return bool(self.flags & Attribute.DEBUG)

    @property
    def attributes(self) -> bytes:
        """ATTRIBUTES as it lies in memory: flags and XFRM, 16 bytes."""
        return struct.pack("<QQ", self.flags, self.xfrm)

    def pack(self) -> bytes:
        """Return the 384 bytes."""
        try:
            return _BODY.pack(
                self.cpu_svn,
                self.misc_select,
                bytes(12),
                self.isv_ext_prod_id,
                self.flags,
                self.xfrm,
                self.mr_enclave,
                bytes(32),
                self.mr_signer,
                bytes(32),
                self.config_id,
                self.isv_prod_id,
                self.isv_svn,
                self.config_svn,
                bytes(42),
                self.isv_family_id,
                self.report_data,
            )
        except struct.error as error:
            raise InvalidStructureError(f"report body: {error}") from error

    @classmethod
    def parse(cls, data: bytes) -> ReportBody:
        """Read the 384 bytes; InvalidStructureError on a wrong length or on reserved bytes in use."""
        require_length(data, BODY_BYTES, "report body")
        (
            cpu_svn,
            misc,
            reserved1,
            ext,
            flags,
            xfrm,
            mr_enclave,
            reserved2,
            mr_signer,
            reserved3,
            config_id,
            prod_id,
            svn,
            config_svn,
            reserved4,
            family,
            report_data,
        ) = _BODY.unpack(data)
        require_zero(reserved1 + reserved2 + reserved3 + reserved4, "report body")
        return cls(
            cpu_svn,
            misc,
            ext,
            flags,
            xfrm,
            mr_enclave,
            mr_signer,
            config_id,
            prod_id,
            svn,
            config_svn,
            family,
            report_data,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """REPORT, 432 bytes: a body, and a MAC that only the enclave it is aimed at (and its CPU) can compute."""

    body: ReportBody
    key_id: bytes
    mac: bytes

    def __post_init__(self) -> None:
        require_length(self.key_id, 32, "key_id")
        require_length(self.mac, 16, "mac")

    def pack(self) -> bytes:
        """Return the 432 bytes."""
        return self.body.pack() + self.key_id + self.mac

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read the 432 bytes."""
        require_length(data, REPORT_BYTES, "report")
        return cls(ReportBody.parse(data[:BODY_BYTES]), data[BODY_BYTES : BODY_BYTES + 32], data[-16:])


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """TARGETINFO, 512 bytes: whom a REPORT is for."""

    mr_enclave: bytes
    flags: int
    xfrm: int
    config_svn: int = 0
    misc_select: int = 0
    config_id: bytes = bytes(64)

    def __post_init__(self) -> None:
        require_length(self.mr_enclave, 32, "mr_enclave")
        require_length(self.config_id, 64, "config_id")
        require_unsigned(self.flags, 64, "flags")
        require_unsigned(self.xfrm, 64, "xfrm")
        require_unsigned(self.config_svn, 16, "config_svn")
        require_unsigned(self.misc_select, 32, "misc_select")

    @classmethod
    def of(cls, body: ReportBody) -> TargetInfo:
        """Aim at the enclave that `body` describes."""
        return cls(body.mr_enclave, body.flags, body.xfrm, body.config_svn, body.misc_select, body.config_id)

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        return _TARGET.pack(
            self.mr_enclave,
            self.flags,
            self.xfrm,
            bytes(2),
            self.config_svn,
            self.misc_select,
            bytes(8),
            self.config_id,
            bytes(384),
        )

    @classmethod
    def parse(cls, data: bytes) -> TargetInfo:
        """Read the 512 bytes."""
        require_length(data, TARGET_INFO_BYTES, "target info")
        mr_enclave, flags, xfrm, reserved1, config_svn, misc, reserved2, config_id, reserved3 = (
            _TARGET.unpack(data)
        )
        require_zero(reserved1 + reserved2 + reserved3, "target info")
        return cls(mr_enclave, flags, xfrm, config_svn, misc, config_id)


def report_mac(body: ReportBody, report_key: bytes) -> bytes:
    """AES-128-CMAC over the body alone: KEYID enters through the key (SDM, EREPORT)."""
    mac = CMAC(AES(report_key))
    mac.update(body.pack())
    return mac.finalize()


def verify_report(report: Report, report_key: bytes) -> None:
    """Raise InvalidStructureError unless `report` was made on this CPU for the enclave whose key this is."""
    if not hmac.compare_digest(report_mac(report.body, report_key), report.mac):
        raise InvalidStructureError("report: the MAC does not match")
