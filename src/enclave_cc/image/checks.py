"""The running record of one verification: every rule leaves its finding, the first failure ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.findings import Outcome
from enclave_cc.core.verdict import Verdict

if TYPE_CHECKING:
    from enclave_cc.core.errors import Stage
    from enclave_cc.core.findings import Finding


class Checks:
    """Findings in the order of evaluation; a refusal carries all of them up to its own."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return what was found so far."""
        return tuple(self._findings)

    def require(self, finding: Finding, code: str, summary: str, *, stage: Stage) -> None:
        """Record a finding and raise ``RefusedError`` with the whole record if it failed."""
        self._findings.append(finding)
        if finding.outcome is not Outcome.PASSED:
            Verdict(self.findings).require(code, summary, stage=stage)

    def note(self, finding: Finding) -> None:
        """Record a finding that does not stand in the way by itself."""
        self._findings.append(finding)

    def mark(self) -> int:
        """Remember this point of the record."""
        return len(self._findings)

    def begin_again(self, mark: int, reason: Finding) -> None:
        """Drop what a failed attempt found since a mark, for one finding that says why there is another."""
        self._findings[mark:] = [reason]
