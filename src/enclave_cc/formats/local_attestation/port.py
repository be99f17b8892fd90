"""What a handshake needs from its processor and its random source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from enclave_cc.core.errors import RefusedError, Stage

if TYPE_CHECKING:
    from enclave_cc.formats.sgx.report import Report, ReportBody, TargetInfo


class Reporter(Protocol):
    """The part of the platform port that local attestation uses."""

    def identity(self) -> ReportBody:
        """Own identity with zero report data."""
        ...

    def measured_initdata(self) -> bytes:
        """Digest of the initdata that is part of the own identity."""
        ...

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT."""
        ...

    def report_key(self, key_id: bytes) -> bytes:
        """EGETKEY(REPORT)."""
        ...


class RandomSource(Protocol):
    """Cryptographic random bytes; `os.urandom` fits."""

    def __call__(self, size: int, /) -> bytes:
        """Return `size` fresh bytes."""
        ...


def refused(reason: str) -> RefusedError:
    """Build the error for a handshake that is malformed, out of order, expired or tampered with."""
    return RefusedError(
        "local-attestation-refused",
        "the local attestation handshake was refused",
        stage=Stage.LOCAL_ATTESTATION,
        detail=reason,
    )
