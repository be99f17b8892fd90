"""
The course of one preparation as others see it: how far it is, and how it is told to stop.

Whoever asks for a preparation may go away without ending it; only discarding the container, or the end of
the agent, cancels. The flag alone does not reach work that waits for a peer: that leaves a way to wake it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.image.layers.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Cancellation:
    """A flag that is set once, and those who must be woken then; safe to use from several threads."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._wake: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Set the flag and wake everybody."""
        with self._lock:
            self._flag.set()
            callbacks = tuple(self._wake)
        for wake in callbacks:
            wake()

    def is_set(self) -> bool:
        """Tell whether the work is no longer wanted."""
        return self._flag.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is not wanted any more, or for so long; tell which."""
        return self._flag.wait(timeout)

    def require(self) -> None:
        """Raise ``UnavailableError`` (cancelled) if the work is no longer wanted."""
        if self.is_set():
            raise UnavailableError("cancelled", "the work is no longer wanted", stage=Stage.REQUEST)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call back on cancellation while the block runs; raise if it came before."""
        with self._lock:
            self._wake.append(wake)
        try:
            self.require()
            yield
        finally:
            with self._lock:
                self._wake.remove(wake)


class Course:
    """What a preparation shares with those who watch and end it."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.cancellation = Cancellation()
