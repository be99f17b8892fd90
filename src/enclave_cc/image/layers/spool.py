"""
The memory in which layers wait until they are authenticated: one allowance for all layers of an image.

Whoever opens several layers at once reserves for them in their order, from the lowest upwards. A layer
that waits here then waits for lower ones only, and the lowest of all never waits for anybody.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from enclave_cc.core.errors import Stage, UnavailableError

if TYPE_CHECKING:
    from types import TracebackType


class Reservation:
    """Part of the allowance; given back bit by bit, the rest at the end of the ``with`` block."""

    def __init__(self, spool: Spool, size_bytes: int) -> None:
        self._spool = spool
        self.size_bytes = size_bytes

    def release(self, size_bytes: int) -> None:
        """Give back what is not needed any more."""
        released = min(size_bytes, self.size_bytes)
        self.size_bytes -= released
        self._spool.give_back(released)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(self.size_bytes)


class Spool:
    """An allowance of bytes; safe to use from several threads."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._free = size_bytes
        self._closed = False
        self._changed = threading.Condition()

    def holds(self, size_bytes: int) -> bool:
        """Tell whether something of that size fits an empty spool."""
        return size_bytes <= self.size_bytes

    def reserve(self, size_bytes: int) -> Reservation:
        """Wait until there is room; nothing is reserved for what could never fit."""
        if not self.holds(size_bytes):
            return Reservation(self, 0)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free >= size_bytes)
            if self._closed:
                raise UnavailableError("cancelled", "the work is no longer wanted", stage=Stage.FETCH)
            self._free -= size_bytes
        return Reservation(self, size_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Make room for others."""
        with self._changed:
            self._free += size_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer: whoever does is told that the work is not wanted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
