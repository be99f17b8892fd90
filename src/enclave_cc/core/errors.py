"""
Every failure a user can meet: one family, split by what the caller can do about it.

An error carries two texts. ``summary`` may cross the trust boundary: it reaches the host, the
kubelet and the pod's events, so it names *what* failed and never *with which value*.
``detail`` and ``findings`` stay inside the enclave and go to the owner's audit log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from enclave_cc.core.catalogue import remedy_for

if TYPE_CHECKING:
    from enclave_cc.core.findings import Finding


class Stage(StrEnum):
    """Where in a pod's life something failed; the words are part of the public interface."""

    REQUEST = "request"
    CONFIG = "config"
    RESOLVE = "resolve"
    MEASURE = "measure"
    ATTEST = "attest"
    POLICY = "policy"
    FETCH = "fetch"
    VERIFY = "verify"
    DECRYPT = "decrypt"
    UNPACK = "unpack"
    SEAL = "seal"
    LOCAL_ATTESTATION = "local-attestation"
    LAUNCH = "launch"
    MOUNT = "mount"
    RUN = "run"
    EXEC = "exec"
    STORE = "store"
    BROKER = "broker"
    SNAPSHOT = "snapshot"
    PLATFORM = "platform"


class EnclaveCcError(Exception):
    """Base of the family; ``code`` is part of the public interface and never changes meaning."""

    exit_status: ClassVar[int] = 70

    def __init__(
        self,
        code: str,
        summary: str,
        *,
        stage: Stage,
        detail: str = "",
        findings: tuple[Finding, ...] = (),
    ) -> None:
        super().__init__(summary)
        self.code = code
        self.summary = summary
        self.stage = stage
        self.detail = detail
        self.findings = findings

    @property
    def remedy(self) -> str:
        """One line that says what to do next."""
        return remedy_for(self.code)

    def host_line(self, request_id: str) -> str:
        """Render the view of the untrusted host: code, stage and request id, and no values."""
        where = f"code={self.code} stage={self.stage} request={request_id}"
        return f"enclave-cc: {self.summary} [{where}]; {self.remedy}"


class InvalidInputError(EnclaveCcError):
    """Bytes from outside did not parse or make no sense: fix the input."""

    exit_status = 65


class RefusedError(EnclaveCcError):
    """A digest, signature, quote or policy said no; retrying cannot help."""

    exit_status = 77


class UnavailableError(EnclaveCcError):
    """A peer did not answer; the same request may succeed later."""

    exit_status = 69


class InternalError(EnclaveCcError):
    """Our own fault; worth a bug report."""

    exit_status = 70
