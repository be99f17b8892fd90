"""
Have the kernel read the rest of a chunk that was opened for a small part of it.

Opening a chunk costs the same for four KiB of it as for all of it, so the kernel is asked to read the rest
at once. It is asked, and not handed anything: it comes back with an ordinary request, which passes
the ordinary checks. So nothing that was not verified gets into its cache, and nothing at all once the
device is poisoned.

The kernel is asked by a thread of its own, and nobody waits for that one: a wish that cannot be taken
down is dropped. The thread waits for no page that somebody else reads, and what it may wait for, room
for one more request, ends with the connection. ADR 14 has the reasons.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.chunks import CHUNK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

# As many as the device keeps open: the rest of a chunk should still be there when it is asked for.
_WAITING: Final = 16
# Stands for the end; no chunk has this number.
_END: Final = -1


class ChunkPrefetcher:
    """Wishes for whole chunks of one served file."""

    def __init__(self) -> None:
        self._wishes: SimpleQueue[int] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def want(self, chunk: int) -> None:
        """Ask for all of a chunk, some time soon; never wait, and forget it where too much is asked for."""
        if self._wishes.qsize() < _WAITING:
            self._wishes.put(chunk)

    def start(self, path: Path) -> None:
        """Begin to ask, now that the file is mounted and served; raise OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._ask, args=(fd,), name="chunk-prefetch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking: what is open cannot be unmounted. The file must still be served."""
        if self._thread is not None:
            self._wishes.put(_END)
            self._thread.join()
            self._thread = None

    def _ask(self, fd: int) -> None:
        try:
            while (chunk := self._wishes.get()) != _END:
                # It is a wish: what goes wrong with it shows when the bytes are really wanted.
                with suppress(OSError):
                    os.posix_fadvise(fd, chunk * CHUNK_BYTES, CHUNK_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)
