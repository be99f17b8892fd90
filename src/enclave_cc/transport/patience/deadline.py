"""
How long somebody waits for a peer, and the flag with which he stops waiting.

Whoever asked for the whole work sets the deadline; every request, retry and pause below takes its
share of what is left. Clock and sleep are handed in, so that tests need neither.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

from enclave_cc.core.errors import Stage, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Cancellation(Protocol):
    """A ``threading.Event``, as far as it is needed here."""

    def is_set(self) -> bool:
        """Tell whether the work is no longer wanted."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is not wanted any more, or for so long; tell which."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock."""

    at_s: float = math.inf
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    @classmethod
    def after(cls, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the moment that many seconds from now."""
        return cls(clock() + seconds, clock)

    @property
    def remaining_s(self) -> float:
        """Return how much time is left; never negative."""
        return max(0.0, self.at_s - self.clock())

    def at_most(self, seconds: float) -> Self:
        """Return the earlier of this moment and that many seconds from now."""
        return replace(self, at_s=min(self.at_s, self.clock() + seconds))


@dataclass(frozen=True, slots=True)
class Patience:
    """A deadline and a cancellation that belong to one piece of work."""

    deadline: Deadline = field(default_factory=Deadline)
    cancelled: Cancellation | None = None
    sleep: Callable[[float], object] = field(default=time.sleep, compare=False)

    def at_most(self, seconds: float) -> Self:
        """Return the patience for a part of the work."""
        return replace(self, deadline=self.deadline.at_most(seconds))

    def require(self) -> None:
        """Raise ``UnavailableError`` (cancelled, deadline-exceeded) once the work is not worth going on."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise _cancelled()
        if self.deadline.remaining_s <= 0:
            raise UnavailableError(
                "deadline-exceeded", "the registry took too long", stage=Stage.FETCH, detail="no time is left"
            )

    def pause(self, seconds: float) -> None:
        """Wait; raise as ``require`` does, without waiting where the deadline would pass meanwhile."""
        if seconds >= self.deadline.remaining_s:
            self.at_most(0).require()
        if self.cancelled is None:
            self.sleep(seconds)
        elif self.cancelled.wait(seconds):
            raise _cancelled()


def _cancelled() -> UnavailableError:
    return UnavailableError("cancelled", "the work is no longer wanted", stage=Stage.FETCH)
