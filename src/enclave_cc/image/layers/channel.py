"""
A bounded hand-over between two threads, in which neither side can be left waiting for ever.

The reader sees the writer's failure as its own; the writer notices that the reader went away.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

T = TypeVar("T")

# Enough to ride out a busy moment of the other side; each place holds one chunk.
DEPTH: Final = 4
# A stage that waits for the network ends by itself at its time-out; nobody waits for that.
_JOIN_S: Final = 1.0


class ChannelClosedError(Exception):
    """The reader went away; there is nothing left to do for the writer."""


class Channel(Generic[T]):
    """One writer, one reader, a few places."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._failure: BaseException | None = None

    def put(self, item: T) -> None:
        """Hand over an item, waiting for a place; raise ``ChannelClosedError`` if nobody reads."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                raise ChannelClosedError
            self._items.append(item)
            self._changed.notify_all()

    def end(self, failure: BaseException | None = None) -> None:
        """Say that no item follows, and why if that is not the regular end."""
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading; items on the way are dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def drain(self) -> Iterator[T]:
        """Read until the end; raise the writer's failure if it had one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items) or self._ended)
                if not self._items:
                    if self._failure is not None:
                        raise self._failure
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


def in_thread(items: Iterable[T], *, name: str, depth: int = DEPTH) -> Generator[T, None, None]:
    """Evaluate an iterable in a thread of its own, a few items ahead; closing the result stops it."""
    channel: Channel[T] = Channel(depth)
    thread = threading.Thread(target=_pump, args=(items, channel), name=name, daemon=True)
    thread.start()
    try:
        yield from channel.drain()
    finally:
        channel.close()
        thread.join(_JOIN_S)


def _pump(items: Iterable[T], channel: Channel[T]) -> None:
    failure: BaseException | None = None
    try:
        for item in items:
            channel.put(item)
    except ChannelClosedError:
        pass
    except BaseException as error:  # noqa: BLE001  # a thread's outermost boundary: the reader raises it again
        failure = error
    finally:
        _close(items)
        channel.end(failure)


def _close(items: object) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()
