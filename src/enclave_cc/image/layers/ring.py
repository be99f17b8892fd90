"""
Buffers that go round between a thread that fills them and the one that reads.

Nothing is allocated per piece: fresh memory for every piece would cost the system as much as
decompressing does. The price is a rule: a piece is the reader's until it asks for the next one.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# Small enough that a piece is still in the processor's cache when the next stage takes it, large enough that
# handing it over does not show.
PIECE_BYTES: Final = 512 << 10
# One is filled, one is read, two ride out a busy moment of either side.
PIECES: Final = 4
# A stage that waits for the network ends by itself at its time-out; nobody waits for that.
_JOIN_S: Final = 1.0


class _ReaderGoneError(Exception):
    """Nobody reads any more; there is nothing left to fill."""


class _Ring:
    """Which buffers are free, and which hold how many bytes, in order."""

    def __init__(self) -> None:
        self._free = [memoryview(bytearray(PIECE_BYTES)) for _ in range(PIECES)]
        self._filled: deque[memoryview] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._failure: BaseException | None = None

    def take(self) -> memoryview:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free)
            if self._closed:
                raise _ReaderGoneError
            return self._free.pop()

    def put(self, buffer: memoryview, size: int) -> None:
        with self._changed:
            self._filled.append(buffer[:size])
            self._changed.notify_all()

    def end(self, failure: BaseException | None) -> None:
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> Iterator[memoryview]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._filled or self._ended)
                if not self._filled:
                    break
                piece = self._filled.popleft()
            yield piece
            with self._changed:
                self._free.append(memoryview(piece.obj))
                self._changed.notify_all()
        if self._failure is not None:
            raise self._failure


def filled_in_thread(
    fill: Callable[[memoryview], int], *, name: str, close: Callable[[], None]
) -> Generator[memoryview, None, None]:
    """
    Call ``fill`` in a thread until it returns 0, a few buffers ahead; its failure is the reader's.

    ``close`` is called at the end in the same thread, whatever happened. Closing the result stops it.
    """
    ring = _Ring()
    thread = threading.Thread(target=_pump, args=(fill, close, ring), name=name, daemon=True)
    thread.start()
    try:
        yield from ring.drain()
    finally:
        ring.close()
        thread.join(_JOIN_S)


def _pump(fill: Callable[[memoryview], int], close: Callable[[], None], ring: _Ring) -> None:
    failure: BaseException | None = None
    try:
        while _fill_one(fill, ring):
            continue
    except _ReaderGoneError:
        pass
    except BaseException as error:  # noqa: BLE001  # a thread's outermost boundary: the reader raises it again
        failure = error
    finally:
        close()
        ring.end(failure)


def _fill_one(fill: Callable[[memoryview], int], ring: _Ring) -> bool:
    buffer = ring.take()
    size = 0
    while size < len(buffer) and (more := fill(buffer[size:])):
        size += more
    if size:
        ring.put(buffer, size)
    return size == len(buffer)
