"""Trying again: after each failure in a row a longer pause, never past the deadline."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.core.errors import Stage
    from enclave_cc.transport.patience.deadline import Patience

# Failures in a row; anything that arrived in between starts the count again.
ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
# A peer may ask for more than our own longest pause, but not for any time it likes.
_LONGEST_WISH_S: Final = 120.0
# Failures that no second attempt can mend.
_FINAL: Final = frozenset({"cancelled", "deadline-exceeded"})


class BusyError(UnavailableError):
    """A peer that answered, and asked to come back later."""

    def __init__(self, code: str, summary: str, *, stage: Stage, detail: str, retry_after_s: float) -> None:
        super().__init__(code, summary, stage=stage, detail=detail)
        self.retry_after_s = retry_after_s


class Backoff:
    """Counts failures in a row and waits after each of them."""

    def __init__(
        self,
        patience: Patience,
        *,
        attempts: int = ATTEMPTS,
        # Many clients that failed together must not come back together; nothing secret depends on it.
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._patience = patience
        self._attempts = attempts
        self._jitter = jitter
        self._failures = 0

    def progressed(self) -> None:
        """Forget the failures so far: something arrived."""
        self._failures = 0

    def failed(self, error: UnavailableError) -> None:
        """Wait before the next attempt; raise the error itself when there is none."""
        self._failures += 1
        if error.code in _FINAL or self._failures >= self._attempts:
            raise error
        pause_s = min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        pause_s *= 0.5 + self._jitter() / 2
        if isinstance(error, BusyError):
            if error.retry_after_s > _LONGEST_WISH_S:
                raise error
            pause_s = max(pause_s, error.retry_after_s)
        if pause_s >= self._patience.deadline.remaining_s:
            # The failure says more than that time ran out.
            raise error
        self._patience.pause(pause_s)
