"""
What is known about each block of the scratch: the number under which it was sealed last, and its tag.

This table is why nothing can be replayed, moved or forged: it never leaves memory, so the host can
only bring the one ciphertext that was written last. An entry takes 24 bytes, and pages of the table
exist only where something was written: 1 MiB of scratch costs 6 KiB.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.chunks import Octets

COUNTER_BYTES: Final = 8
ENTRY_BYTES: Final = COUNTER_BYTES + 16
# Counters begin at 1, and are too many to reach the last.
NEVER_WRITTEN: Final = bytes(COUNTER_BYTES)
LOST: Final = b"\xff" * COUNTER_BYTES
_LOST_ENTRY: Final = LOST + bytes(ENTRY_BYTES - COUNTER_BYTES)
_NO_HUGE_PAGES: Final = 15
# Locked memory takes the second only (Linux 5.18), and other memory takes both.
_FREE_PAGES: Final = (4, 24)
_ZEROS: Final = bytes(1 << 16)


class BlockTable:
    """Entries of ``ENTRY_BYTES`` for a fixed number of blocks, all of them zero at first."""

    def __init__(self, blocks: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, blocks * ENTRY_BYTES, flags=flags)
        with suppress(OSError):
            # One entry would take 2 MiB otherwise.
            self._memory.madvise(_NO_HUGE_PAGES)

    def get(self, blocks: range) -> bytes:
        """Return a copy of the entries of some blocks."""
        return self._memory[blocks.start * ENTRY_BYTES : blocks.stop * ENTRY_BYTES]

    def put(self, blocks: range, entries: Octets) -> None:
        """Replace the entries of some blocks."""
        self._memory[blocks.start * ENTRY_BYTES : blocks.stop * ENTRY_BYTES] = entries

    def lose(self, blocks: range) -> None:
        """Note that nobody knows what these blocks hold."""
        self.put(blocks, _LOST_ENTRY * len(blocks))

    def forget(self, blocks: range) -> None:
        """Take the blocks for never written, and give the memory back."""
        start, stop = blocks.start * ENTRY_BYTES, blocks.stop * ENTRY_BYTES
        first_page = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last_page = stop // mmap.PAGESIZE * mmap.PAGESIZE
        if first_page < last_page and self._free(first_page, last_page):
            self._zero(start, first_page)
            self._zero(last_page, stop)
        else:
            self._zero(start, stop)

    def close(self) -> None:
        """Give all of the memory back; nothing may be using the table."""
        self._memory.close()

    def _free(self, start: int, stop: int) -> bool:
        for advice in _FREE_PAGES:
            with suppress(OSError):
                self._memory.madvise(advice, start, stop - start)
                return True
        return False

    def _zero(self, start: int, stop: int) -> None:
        for position in range(start, stop, len(_ZEROS)):
            size = min(len(_ZEROS), stop - position)
            self._memory[position : position + size] = _ZEROS[:size]
