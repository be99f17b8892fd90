"""KEYREQUEST: what an enclave hands to EGETKEY (Intel SDM volume 3D; `sgx_key.h` of the Intel SGX SDK)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from enclave_cc.formats.sgx.structure import (
    InvalidStructureError,
    require_length,
    require_unsigned,
    require_zero,
)

_REQUEST = struct.Struct("<HHH2s16sQQ32sIH434s")
KEY_REQUEST_BYTES: Final = _REQUEST.size


class KeyName(IntEnum):
    """KEYNAME: which key is derived."""

    EINITTOKEN = 0
    PROVISION = 1
    PROVISION_SEAL = 2
    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag):
    """KEYPOLICY: which parts of the identity a seal key depends on."""

    MRENCLAVE = 0x01
    MRSIGNER = 0x02
    NOISVPRODID = 0x04
    CONFIGID = 0x08
    ISVFAMILYID = 0x10
    ISVEXTPRODID = 0x20


_KNOWN_POLICY: Final = 0x3F


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """KEYREQUEST, 512 bytes."""

    key_name: KeyName
    key_policy: KeyPolicy | int = 0
    isv_svn: int = 0
    cpu_svn: bytes = bytes(16)
    flags_mask: int = 0
    xfrm_mask: int = 0
    key_id: bytes = bytes(32)
    misc_mask: int = 0
    config_svn: int = 0

    def __post_init__(self) -> None:
        require_length(self.cpu_svn, 16, "cpu_svn")
        require_length(self.key_id, 32, "key_id")
        require_unsigned(self.isv_svn, 16, "isv_svn")
        require_unsigned(self.flags_mask, 64, "flags_mask")
        require_unsigned(self.xfrm_mask, 64, "xfrm_mask")
        require_unsigned(self.misc_mask, 32, "misc_mask")
        require_unsigned(self.config_svn, 16, "config_svn")

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        return _REQUEST.pack(
            self.key_name,
            self.key_policy,
            self.isv_svn,
            bytes(2),
            self.cpu_svn,
            self.flags_mask,
            self.xfrm_mask,
            self.key_id,
            self.misc_mask,
            self.config_svn,
            bytes(434),
        )

    @classmethod
    def parse(cls, data: bytes) -> KeyRequest:
        """Read the 512 bytes; InvalidStructureError names what is wrong."""
        require_length(data, KEY_REQUEST_BYTES, "key request")
        (
            name,
            policy,
            isv_svn,
            reserved1,
            cpu_svn,
            flags_mask,
            xfrm_mask,
            key_id,
            misc_mask,
            config_svn,
            reserved2,
        ) = _REQUEST.unpack(data)
        require_zero(reserved1 + reserved2, "key request")
        if name not in KeyName.__members__.values():
            raise InvalidStructureError(f"key request: unknown key name {name}")
        if policy & ~_KNOWN_POLICY:
            raise InvalidStructureError("key request: unknown policy bits")
        return cls(
            KeyName(name),
            KeyPolicy(policy),
            isv_svn,
            cpu_svn,
            flags_mask,
            xfrm_mask,
            key_id,
            misc_mask,
            config_svn,
        )
