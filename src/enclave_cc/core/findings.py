"""
What a check saw, kept whether it passed or failed.

A bare *no* costs people days. Every rule leaves a finding with what it wanted and what it
saw; the findings are made by the evaluation itself, never by a second copy of the rule. They
hold values, so they travel to the owner only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Collection

# A finding is read by a person; whatever a hostile peer makes us quote is cut here.
MAX_VALUE_CHARS: Final = 2048


class Outcome(StrEnum):
    """How one rule ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, what it wanted and what it saw."""

    rule: str
    outcome: Outcome
    expected: str = ""
    actual: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding as JSON members, empty ones left out, long values cut."""
        members = {
            "rule": self.rule,
            "outcome": str(self.outcome),
            "expected": self.expected,
            "actual": self.actual,
            "remedy": self.remedy,
        }
        return {name: value[:MAX_VALUE_CHARS] for name, value in members.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what ``to_json`` wrote; raise ``FieldError`` for anything else."""
        fields = Fields(value, "finding")
        fields.only("rule", "outcome", "expected", "actual", "remedy")
        outcome = fields.text("outcome")
        if outcome not in set(Outcome):
            raise fields.error("outcome", "is not an outcome")
        return cls(
            rule=fields.text("rule"),
            outcome=Outcome(outcome),
            expected=fields.text("expected", default=""),
            actual=fields.text("actual", default=""),
            remedy=fields.text("remedy", default=""),
        )


def equal(rule: str, *, expected: str, actual: str, remedy: str = "") -> Finding:
    """Check that two texts are the same."""
    outcome = Outcome.PASSED if expected == actual else Outcome.FAILED
    return Finding(rule, outcome, expected, actual, remedy)


def member(rule: str, *, allowed: Collection[str], actual: str, remedy: str = "") -> Finding:
    """Check one value against a set; an empty set allows nothing."""
    outcome = Outcome.PASSED if actual in allowed else Outcome.FAILED
    expected = " or ".join(sorted(allowed)) or "(none registered)"
    return Finding(rule, outcome, expected, actual, remedy)
