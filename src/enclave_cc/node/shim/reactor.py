"""
One thread, one epoll, and coroutines on top: what the shim needs of asyncio, without its 40 ms of imports.

Callbacks never run inside the call that caused them: they are queued, so a coroutine can
resolve a future or cancel another coroutine without being re-entered.
"""

from __future__ import annotations

import select
import sys
from _heapq import heappop, heappush
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
PRIORITY = select.EPOLLPRI
# epoll counts milliseconds in an int; a caller may name a deadline in another century.
_LONGEST_WAIT_S = 86400.0


class Cancelled(Exception):  # noqa: N818 - it is an order, not an error
    """Thrown into a coroutine whose result nobody wants any more."""


class DeadlineExceeded(Exception):  # noqa: N818 - named after the status it becomes
    """What a coroutine waited for did not happen in time."""


class Future:
    """A value that will be known later; every waiter is told once."""

    __slots__ = ("_reactor", "_waiters", "done", "error", "value")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._waiters: list[Callable[[Future], None]] = []
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def resolve(self, value: Any = None) -> None:
        """Give the value; later calls change nothing."""
        if not self.done:
            self.value = value
            self._settle()

    def fail(self, error: BaseException) -> None:
        """Give the error instead of a value."""
        if not self.done:
            self.error = error
            self._settle()

    def then(self, waiter: Callable[[Future], None]) -> None:
        """Call the waiter when the value is known."""
        if self.done:
            self._reactor.soon(lambda: waiter(self))
        else:
            self._waiters.append(waiter)

    def result(self) -> Any:
        """Return the value or raise the error of a settled future."""
        if self.error is not None:
            raise self.error
        return self.value

    def _settle(self) -> None:
        self.done = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._reactor.soon(lambda waiter=waiter: waiter(self))  # type: ignore[misc]  # mypy cannot infer defaults

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.done:
            yield self
        return self.result()


class Task(Future):
    """A running coroutine; as a future it is its outcome."""

    __slots__ = ("_cancelled", "_coroutine", "_waiting_for")

    def __init__(self, reactor: Reactor, coroutine: Coroutine[Future, None, Any]) -> None:
        super().__init__(reactor)
        self._coroutine = coroutine
        self._waiting_for: Future | None = None
        self._cancelled = False
        reactor.soon(self._step)

    def cancel(self, reason: Exception | None = None) -> None:
        """Throw into the coroutine where it waits, once; it may clean up, and wait again, before it ends."""
        if self._cancelled or self.done:
            return
        self._cancelled = True
        self._waiting_for = None
        error = reason or Cancelled()
        self._reactor.soon(lambda: self._step(error))

    def _wake(self, future: Future) -> None:
        if self._waiting_for is future:
            self._waiting_for = None
            self._step()

    def _step(self, error: Exception | None = None) -> None:
        if self.done:
            return
        try:
            waits_for = self._coroutine.throw(error) if error else self._coroutine.send(None)
        except StopIteration as end:
            self.resolve(end.value)
        except Exception as failure:  # noqa: BLE001 - the outcome of a task is handed to whoever awaits it
            self.fail(failure)
        else:
            self._waiting_for = waits_for
            waits_for.then(self._wake)


class Reactor:
    """The event loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._ready: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self.stopped = False

    def future(self) -> Future:
        """Make a future of this loop."""
        return Future(self)

    def spawn(self, coroutine: Coroutine[Future, None, Any]) -> Task:
        """Run a coroutine beside the others."""
        return Task(self, coroutine)

    def soon(self, callback: Callable[[], None]) -> None:
        """Run the callback after the current one."""
        self._ready.append(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run the callback after a while."""
        self._timer_number += 1
        heappush(self._timers, (monotonic() + seconds, self._timer_number, callback))

    def sleep(self, seconds: float) -> Future:
        """Return a future that resolves after a while."""
        future = self.future()
        self.later(seconds, future.resolve)
        return future

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call the handler with the events seen on a descriptor; raise ``OSError`` if epoll cannot."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def rewatch(self, descriptor: int, events: int) -> None:
        """Change the events of interest."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Stop watching; harmless for a descriptor that is not watched."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def run(self) -> None:
        """Serve until ``stopped`` is set."""
        while not self.stopped:
            self.turn()

    def turn(self) -> None:
        """Wait for something to happen and handle it."""
        for descriptor, events in self._epoll.poll(self._idle_s()):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                self._protected(lambda handler=handler, events=events: handler(events))  # type: ignore[misc]  # as above
        now = monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heappop(self._timers)[2])
        ready, self._ready = self._ready, []
        for callback in ready:
            self._protected(callback)

    def _idle_s(self) -> float:
        if self._ready:
            return 0
        if self._timers:
            return min(max(0.0, self._timers[0][0] - monotonic()), _LONGEST_WAIT_S)
        return -1

    def _protected(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - one bad event must not end the pod
            sys.excepthook(type(error), error, error.__traceback__)


class Lock:
    """Mutual exclusion in order of arrival."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._held = False
        self._queue: list[Future] = []

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        turn = self._reactor.future()
        self._queue.append(turn)
        try:
            await turn
        except Exception:
            # Cancelled while queued: leave the queue, or pass on a turn that was granted meanwhile.
            if turn in self._queue:
                self._queue.remove(turn)
            elif turn.done:
                self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._queue:
            self._queue.pop(0).resolve()
        else:
            self._held = False


async def outcome(future: Future) -> Exception | None:
    """Wait until a future is settled and return its error instead of raising it."""
    try:
        await future
    except Exception as error:
        if not future.done:
            raise
        return error
    return None


async def both(first: Future, second: Future) -> None:
    """Wait for two futures to settle and raise the first error of theirs."""
    for error in [await outcome(first), await outcome(second)]:
        if error is not None:
            raise error


async def within(reactor: Reactor, seconds: float, awaited: Future) -> Any:
    """Wait for a future, but not for ever; raise ``DeadlineExceeded`` and leave the future alone."""
    first = reactor.future()
    awaited.then(first.resolve)
    reactor.later(seconds, lambda: first.fail(DeadlineExceeded()))
    await first
    return awaited.result()
