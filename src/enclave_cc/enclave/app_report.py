"""
What an app enclave tells its agent over the attested connection: that it started, or what it had to refuse.

Both enclaves are measured, yet the words are still read as foreign: a container's root file system was
decoded next to the code that writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.resolved_user import ResolvedUser

if TYPE_CHECKING:
    from enclave_cc.core.errors import EnclaveCcError

# A report holds a user, or a handful of findings whose values are cut at two thousand characters.
MAX_REPORT_BYTES: Final = 256 << 10
_MAX_FINDINGS: Final = 32
_MAX_TEXT_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """The container was created, as this user."""

    user: ResolvedUser

    def to_bytes(self) -> bytes:
        """Write the report."""
        return strict_json.canonical({"event": "launched", "user": self.user.to_json()})


@dataclass(frozen=True, slots=True)
class Violation:
    """The app enclave refused something: a damaged chunk, an unknown user, a mount."""

    code: str
    stage: Stage
    summary: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, error: EnclaveCcError) -> Self:
        """Describe an error; one without findings gets one that holds its detail."""
        told = error.findings or (
            Finding(error.code, Outcome.FAILED, actual=error.detail, remedy=error.remedy),
        )
        return cls(error.code, error.stage, error.summary, told)

    def to_bytes(self) -> bytes:
        """Write the report."""
        return strict_json.canonical(
            {
                "event": "violation",
                "code": self.code,
                "stage": str(self.stage),
                "summary": self.summary,
                "findings": [finding.to_json() for finding in self.findings[:_MAX_FINDINGS]],
            }
        )


def parse_report(message: bytes) -> LaunchReport | Violation:
    """Read either report; raise ``InvalidInputError`` (``app-report-invalid``) for anything else."""
    try:
        fields = Fields(strict_json.loads(message, max_bytes=MAX_REPORT_BYTES), "report")
        if fields.text("event") == "launched":
            fields.only("event", "user")
            return LaunchReport(ResolvedUser.read(fields.object("user")))
        return _violation(fields)
    except ValueError as error:
        raise InvalidInputError(
            "app-report-invalid",
            "a report of an app enclave is malformed",
            stage=Stage.LOCAL_ATTESTATION,
            detail=str(error),
        ) from error


def _violation(fields: Fields) -> Violation:
    fields.only("event", "code", "stage", "summary", "findings")
    findings = fields.array("findings")
    code, summary = fields.text("code"), fields.text("summary")
    if fields.text("event") != "violation" or len(findings) > _MAX_FINDINGS:
        raise FieldError("report: is neither a launch nor a violation")
    if max(len(code), len(summary)) > _MAX_TEXT_CHARS:
        raise FieldError("report: a text is too long")
    return Violation(
        code=code,
        stage=Stage(fields.text("stage")),
        summary=summary,
        findings=tuple(map(Finding.from_json, findings)),
    )
