"""Ends a wait from outside: who is blocked on a socket notices neither deadlines nor cancellations."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.transport.patience.deadline import Patience

# How soon a cancellation is noticed.
_PERIOD_S: Final = 0.25


@contextmanager
def cut_off(patience: Patience, end: Callable[[], None]) -> Iterator[None]:
    """
    Call ``end`` from another thread should patience end while the block runs; again while it goes on.

    What the block waits for may not exist yet when its time is over: a connection that is still being made.
    """
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(patience, done, end), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(patience: Patience, done: threading.Event, end: Callable[[], None]) -> None:
    while not done.wait(min(_PERIOD_S, patience.deadline.remaining_s)):
        try:
            patience.require()
        except UnavailableError:
            break
    else:
        return
    end()
    while not done.wait(_PERIOD_S):
        end()
