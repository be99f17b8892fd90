"""
Long work on an image: in a few threads, reported while it goes on, and stopped everywhere at once.

The first failure, or whoever calls ``stop``, stops every stream at its next chunk.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")

# Registries limit connections per client, and more streams than cores gain nothing.
_MAX_THREADS: Final = 4


class StoppedError(Exception):
    """The work was given up elsewhere; whoever gave it up says why."""


class Progress(Protocol):
    """Hears how work goes on; called from several threads."""

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Hear that a stream begins, and how long it will be."""

    def advance(self, task: str, moved_bytes: int) -> None:
        """Hear that a stream went on."""

    def end(self, task: str) -> None:
        """Hear that a stream ended well."""


class Silence:
    """Hears nothing."""

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Hear nothing."""

    def advance(self, task: str, moved_bytes: int) -> None:
        """Hear nothing."""

    def end(self, task: str) -> None:
        """Hear nothing."""


class Work:
    """One command's work."""

    def __init__(self, progress: Progress | None = None, *, threads: int | None = None) -> None:
        self._progress = progress or Silence()
        self._threads = threads or min(_MAX_THREADS, max(2, os.cpu_count() or 1))
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give the work up; a signal handler may call this."""
        self._stopped.set()

    def require_going(self) -> None:
        """Raise ``StoppedError`` when the work was given up."""
        if self._stopped.is_set():
            raise StoppedError

    def stream(self, task: str, chunks: Iterable[bytes], total_bytes: int | None) -> Iterator[bytes]:
        """Pass a stream on, reporting it; raise ``StoppedError`` when the work was given up."""
        self._progress.begin(task, total_bytes)
        for chunk in chunks:
            self.require_going()
            yield chunk
            self._progress.advance(task, len(chunk))
        self._progress.end(task)

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Apply a function to all items, some at a time; raise the first failure after all have stopped."""
        self.require_going()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="image")
        try:
            futures = [pool.submit(function, item) for item in items]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
