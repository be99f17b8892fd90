"""What code inside an enclave may ask of its processor. Every platform implements this and nothing else."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from enclave_cc.formats.sgx.report import Report, ReportBody, TargetInfo


class Tee(StrEnum):
    """Kind of trusted execution environment, as it is named in evidence and tokens."""

    SGX = "sgx"
    SGX_SIM = "sgx-sim"


class Processor(Protocol):
    """The processor as the calling enclave sees it; errors are of the family of `core.errors`."""

    tee: Tee

    def identity(self) -> ReportBody:
        """Own identity, with zero report data."""
        ...

    def measured_initdata(self) -> bytes:
        """Digest of the initdata that is part of the own identity; empty if there is none."""
        ...

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT: a report about the caller that only `target` can check; 64 bytes of report data."""
        ...

    def report_key(self, key_id: bytes) -> bytes:
        """EGETKEY(REPORT): the 16-byte key that checks reports aimed at the caller."""
        ...

    def quote(self, report_data: bytes) -> bytes:
        """DCAP quote of version 3 about the caller; 64 bytes of report data."""
        ...
