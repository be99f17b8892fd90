"""What a check found: how bad it is, in which words, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error keeps the image from running; a warning changes what it does; a note is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about an image; ``rule`` names the check and never changes its meaning."""

    severity: Severity
    rule: str
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the problem as JSON members."""
        return {
            "severity": str(self.severity),
            "rule": self.rule,
            "message": self.message,
            "remedy": self.remedy or None,
        }


def error(rule: str, message: str, remedy: str) -> Problem:
    """Say what keeps the image from running."""
    return Problem(Severity.ERROR, rule, message, remedy)


def warning(rule: str, message: str, remedy: str = "") -> Problem:
    """Say what will be otherwise than elsewhere."""
    return Problem(Severity.WARNING, rule, message, remedy)


def note(rule: str, message: str) -> Problem:
    """Say what is good to know."""
    return Problem(Severity.NOTE, rule, message)
