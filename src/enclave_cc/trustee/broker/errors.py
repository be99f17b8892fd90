"""
Refusals as the protocol shows them: a type and a sentence without values, and a status.

The status is 401 for nearly everything, because existing clients read it as "attest again" and
404 as "give up". What really happened goes to the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, UnavailableError
from enclave_cc.formats.kbs.messages import ErrorInformation

if TYPE_CHECKING:
    from enclave_cc.core.findings import Finding

_SENTENCES: Final = {
    "AdminAuthAccess": "admin access denied",
    "AttestationError": "Attestation error: RCAR handshake Attest failed",
    "FindingsError": "Findings not accepted",
    "JweError": "JWE failed",
    "ParsePolicyError": "Failed to parse policy",
    "PluginInternalError": "Plugin internal error",
    "PluginNotFound": "Plugin not found",
    "PolicyDeny": "Access denied by policy",
    "PolicyEngineError": "Policy engine error",
    "RvpsError": "RVPS configuration failed",
    "SerdeError": "Serialize/Deserialize failed",
    "TokenNotFound": "Attestation Token not found",
    "TokenVerifierError": "Token Verifier error",
}
_STATUSES: Final = {"PluginNotFound": 404, "InvalidRequestPath": 404}
UNAVAILABLE: Final = 503
_DEFAULT: Final = 401


class KbsRefusal(Exception):  # noqa: N818 -- a refusal is an answer of the protocol, not a fault
    """
    Ends a request. ``reason`` and ``sentence`` go to the client, everything else to the log.

    ``recorded`` is false for requests that reach no decision: strangers' noise does not fill the log.
    """

    def __init__(
        self,
        reason: str,
        *,
        sentence: str = "",
        status: int = 0,
        code: str = "",
        detail: str = "",
        findings: tuple[Finding, ...] = (),
        recorded: bool = True,
    ) -> None:
        self.reason = reason
        self.sentence = sentence or _SENTENCES.get(reason, reason)
        self.status = status or _STATUSES.get(reason, _DEFAULT)
        self.code = code
        self.detail = detail
        self.findings = findings
        self.recorded = recorded
        super().__init__(f"{reason}: {self.sentence}")

    @classmethod
    def of(cls, error: EnclaveCcError, reason: str) -> KbsRefusal:
        """Translate an error; a peer of ours that is away is the one thing worth another status."""
        status = UNAVAILABLE if isinstance(error, UnavailableError) else 0
        return cls(reason, status=status, code=error.code, detail=error.detail, findings=error.findings)

    @property
    def text_chars(self) -> int:
        """Return about how much text the log would keep."""
        return len(self.detail) + sum(len(item.expected) + len(item.actual) for item in self.findings)

    def to_bytes(self) -> bytes:
        """Return the body of the answer."""
        return ErrorInformation(self.reason, self.sentence).to_bytes()
