"""
Keep threads apart that work on the same blocks.

A block's ciphertext and its entry in the table change one after the other. Whoever read it in between
would take an honest disk for a forged one, and a workload can bring that about: nothing keeps it from
reading and writing the same place at once.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class RangeLock:
    """Any number of readers of a range, or one writer; there are few threads, so a list will do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[range, bool]] = []

    @contextmanager
    def hold(self, blocks: range, *, exclusive: bool) -> Iterator[None]:
        """Wait until nobody is in the way, and be in the way of others meanwhile."""
        entry = (blocks, exclusive)
        with self._changed:
            while self._is_blocked(blocks, exclusive=exclusive):
                self._changed.wait()
            self._held.append(entry)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(entry)
                self._changed.notify_all()

    def _is_blocked(self, blocks: range, *, exclusive: bool) -> bool:
        return any(
            (exclusive or others_exclusive) and blocks.start < held.stop and held.start < blocks.stop
            for held, others_exclusive in self._held
        )
