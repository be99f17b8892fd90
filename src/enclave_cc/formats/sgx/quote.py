"""DCAP quote, version 3: a report body signed for verifiers elsewhere.

Layout: `sgx_quote_3.h` of Intel SGX DCAP, section "ECDSA-256-with-P-256 quote". Integers are little-
endian, ECDSA values big-endian raw r‖s and x‖y. Parsing proves nothing; `formats.dcap` verifies.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from enclave_cc.formats.sgx.report import BODY_BYTES, ReportBody
from enclave_cc.formats.sgx.structure import (
    InvalidStructureError,
    require_length,
    require_unsigned,
    require_zero,
)

_HEADER = struct.Struct("<HHIHH16s16s4s")
_VERSION: Final = 3
_ECDSA_P256: Final = 2
_SGX: Final = 0
_SIGNED_BYTES: Final = _HEADER.size + BODY_BYTES
_FIXED_SIGNATURE_BYTES: Final = 64 + 64 + BODY_BYTES + 64
INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
# Real quotes have 4.5 to 5.2 kB; a buffer of a library OS may be zero-padded to a few pages.
MAX_QUOTE_BYTES: Final = 64 * 1024
PCK_CHAIN_PEM: Final = 5
_MAX_CERTIFICATION_TYPE: Final = 5


class _Reader:
    """Cuts byte strings off a buffer and refuses to go past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, length: int, what: str) -> bytes:
        end = self._offset + length
        if end > len(self._data):
            raise InvalidStructureError(f"quote: {what} goes past the end")
        part = self._data[self._offset : end]
        self._offset = end
        return part

    def integer(self, length: int, what: str) -> int:
        return int.from_bytes(self.take(length, what), "little")

    def finish(self) -> None:
        if self._offset != len(self._data):
            raise InvalidStructureError("quote: signature data holds more than its parts")


@dataclass(frozen=True, slots=True)
class QuoteV3:
    """A quote in parts. `qe_report` and `body` keep their exact bytes because reserved bytes must be zero."""

    qe_svn: int
    pce_svn: int
    qe_id: bytes
    body: ReportBody
    signature: bytes
    attestation_key: bytes
    qe_report: ReportBody
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_type: int
    certification_data: bytes

    def __post_init__(self) -> None:
        require_unsigned(self.qe_svn, 16, "qe_svn")
        require_unsigned(self.pce_svn, 16, "pce_svn")
        require_unsigned(len(self.qe_auth_data), 16, "qe_auth_data")
        require_length(self.qe_id, 16, "qe_id")
        for name in ("signature", "attestation_key", "qe_report_signature"):
            require_length(getattr(self, name), 64, name)
        if not 1 <= self.certification_type <= _MAX_CERTIFICATION_TYPE:
            raise InvalidStructureError(f"quote: certification data type {self.certification_type}")

    @property
    def signed(self) -> bytes:
        """The bytes under the attestation key's signature: header and report body."""
        header = _HEADER.pack(
            _VERSION, _ECDSA_P256, _SGX, self.qe_svn, self.pce_svn, INTEL_QE_VENDOR, self.qe_id, bytes(4)
        )
        return header + self.body.pack()

    def pack(self) -> bytes:
        """Return the whole quote."""
        signature_data = b"".join(
            (
                self.signature,
                self.attestation_key,
                self.qe_report.pack(),
                self.qe_report_signature,
                struct.pack("<H", len(self.qe_auth_data)),
                self.qe_auth_data,
                struct.pack("<HI", self.certification_type, len(self.certification_data)),
                self.certification_data,
            )
        )
        return self.signed + struct.pack("<I", len(signature_data)) + signature_data

    @classmethod
    def parse(cls, data: bytes) -> QuoteV3:
        """Read a quote; zero bytes after its end are a buffer's padding, any other byte is refused."""
        if not _SIGNED_BYTES < len(data) <= MAX_QUOTE_BYTES:
            raise InvalidStructureError(f"quote: {len(data)} bytes")
        qe_svn, pce_svn, qe_id = _parse_header(data[: _HEADER.size])
        outer = _Reader(data[_HEADER.size :])
        body = ReportBody.parse(outer.take(BODY_BYTES, "report body"))
        length = outer.integer(4, "signature data length")
        if length < _FIXED_SIGNATURE_BYTES:
            raise InvalidStructureError("quote: signature data is too short")
        inner = _Reader(outer.take(length, "signature data"))
        require_zero(data[_SIGNED_BYTES + 4 + length :], "quote padding")
        quote = cls(
            qe_svn=qe_svn,
            pce_svn=pce_svn,
            qe_id=qe_id,
            body=body,
            signature=inner.take(64, "signature"),
            attestation_key=inner.take(64, "attestation key"),
            qe_report=ReportBody.parse(inner.take(BODY_BYTES, "QE report")),
            qe_report_signature=inner.take(64, "QE report signature"),
            qe_auth_data=inner.take(inner.integer(2, "auth data length"), "auth data"),
            certification_type=inner.integer(2, "certification data type"),
            certification_data=inner.take(
                inner.integer(4, "certification data length"), "certification data"
            ),
        )
        inner.finish()
        return quote


def _parse_header(data: bytes) -> tuple[int, int, bytes]:
    version, key_type, tee_type, qe_svn, pce_svn, vendor, qe_id, reserved = _HEADER.unpack(data)
    if version != _VERSION:
        raise InvalidStructureError(f"quote: version {version}")
    if key_type != _ECDSA_P256:
        raise InvalidStructureError(f"quote: attestation key type {key_type}")
    if tee_type != _SGX:
        raise InvalidStructureError(f"quote: TEE type {tee_type}")
    if vendor != INTEL_QE_VENDOR:
        raise InvalidStructureError("quote: unknown vendor of the quoting enclave")
    require_zero(reserved, "quote header")
    return qe_svn, pce_svn, qe_id
