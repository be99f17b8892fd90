"""
The limits of a pull as checks that leave findings; the numbers are in ``formats/owner/limits.py``.

Sizes in descriptors are claims until the bytes were counted, so every limit is enforced on what
arrives and not only on what was announced.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.owner.limits import DEFAULT_LIMITS, Limits
from enclave_cc.image.checks import Checks

if TYPE_CHECKING:
    from enclave_cc.core.errors import Stage

__all__ = ["DEFAULT_LIMITS", "Limits", "Meter", "at_most", "require_at_most"]


def at_most(rule: str, *, limit: int, actual: int) -> Finding:
    """Check a number against a limit."""
    outcome = Outcome.PASSED if actual <= limit else Outcome.FAILED
    return Finding(rule, outcome, f"at most {limit}", str(actual))


def require_at_most(
    checks: Checks, rule: str, summary: str, *, limit: int, actual: int, stage: Stage
) -> None:
    """Record the check; raise ``RefusedError`` (image-limit-exceeded) above the limit."""
    checks.require(at_most(rule, limit=limit, actual=actual), "image-limit-exceeded", summary, stage=stage)


class Meter:
    """A sum over all layers of an image that must stay below a limit; safe to use from several threads."""

    def __init__(self, rule: str, summary: str, *, limit: int, stage: Stage) -> None:
        self._rule = rule
        self._summary = summary
        self._limit = limit
        self._stage = stage
        self._sum = 0
        self._lock = threading.Lock()

    def count(self, number: int) -> None:
        """Add to the sum; raise ``RefusedError`` (image-limit-exceeded) when it becomes too large."""
        with self._lock:
            self._sum += number
            total = self._sum
        if total > self._limit:
            # A record of its own: other threads write to theirs.
            require_at_most(
                Checks(), self._rule, self._summary, limit=self._limit, actual=total, stage=self._stage
            )
