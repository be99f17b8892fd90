"""
How much strangers may write into the owner's log: plenty for a cluster in trouble, too little to fill a disk.

What is refused stays refused when the allowance is spent; only the record of it is lost, and that is logged.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Some thousand refusals at once, and then a few a minute: under 100 MB a day.
_BURST_BYTES: Final = 16 << 20
_BYTES_PER_SECOND: Final = 1 << 10
# What an entry takes besides its texts.
_ENTRY_BYTES: Final = 512


class Allowance:
    """A bucket of bytes that fills slowly; safe to call from several threads."""

    def __init__(self, monotonic: Callable[[], float], *, burst_bytes: int = _BURST_BYTES) -> None:
        self._monotonic = monotonic
        self._burst_bytes = burst_bytes
        self._left: float = burst_bytes
        self._seen = monotonic()
        self._lock = threading.Lock()

    def take(self, text_bytes: int = 0) -> bool:
        """Take what one entry needs; tell whether there was as much."""
        size = _ENTRY_BYTES + text_bytes
        with self._lock:
            now = self._monotonic()
            filled = self._left + (now - self._seen) * _BYTES_PER_SECOND
            self._left, self._seen = min(filled, self._burst_bytes), now
            if self._left < size:
                return False
            self._left -= size
            return True
