"""The outcome of an appraisal, with its reasons, and the one way to act on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from enclave_cc.core.errors import Stage


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings of one appraisal, in the order of evaluation."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """Return the findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.outcome is Outcome.FAILED)

    def require(self, code: str, summary: str, *, stage: Stage) -> None:
        """Raise ``RefusedError`` unless every rule passed; no rule at all is a refusal too."""
        if self.failed or not self.findings:
            rules = ", ".join(finding.rule for finding in self.failed) or "no rule applied"
            raise RefusedError(code, summary, stage=stage, detail=rules, findings=self.findings)
