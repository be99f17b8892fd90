"""
Mutate inputs and run them: whatever ends in anything but a value or a declared error is a crash.

An input that leaves a parser at a place that no other one did joins the corpus, so that the next
mutations go on from there. That is all the guidance there is, and it costs nothing.
"""

from __future__ import annotations

import random
import signal
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fuzz.mutations import mutate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# No input of this size may keep anybody busy for longer.
SLOW_S = 10.0


class TooSlowError(BaseException):
    """Not an ``Exception``: no parser may take it for an error of its input."""


@dataclass(frozen=True)
class Target:
    """One parser: ``run`` raises ``declared`` errors only, whatever the bytes; ``seeds`` raise none."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], object]
    declared: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Crash:
    """Bytes that reproduce it, and what they do."""

    data: bytes
    report: str


@dataclass(frozen=True)
class Result:
    runs: int
    corpus: int
    crashes: tuple[Crash, ...]


def fuzz(target: Target, *, seed: int, seconds: float = 1e9, runs: int = 1 << 62, most: int = 5) -> Result:
    """Run mutations until the time or their number is over, or ``most`` different crashes were found."""
    source = random.Random(f"{target.name} {seed}")
    corpus = list(target.seeds())
    seen: set[tuple] = set()
    crashes: dict[tuple, Crash] = {}
    end, count = time.monotonic() + seconds, 0
    while count < runs and len(crashes) < most and time.monotonic() < end:
        data = mutate(source, source.choice(corpus), corpus)
        count += 1
        place, crash = run_once(target, data)
        if crash is not None:
            crashes.setdefault(place, crash)
        elif place not in seen:
            seen.add(place)
            corpus.append(data)
    return Result(count, len(corpus), tuple(crashes.values()))


def run_once(target: Target, data: bytes) -> tuple[tuple, Crash | None]:
    """Run one input; return where it ended, and the crash if it was one."""
    try:
        with _bounded_time():
            target.run(data)
    except target.declared as error:
        return _place(error), None
    except (Exception, TooSlowError) as error:  # noqa: BLE001 - these are what is looked for
        return _place(error), Crash(data, traceback.format_exc())
    return (), None


def _place(error: BaseException) -> tuple:
    frames = traceback.extract_tb(error.__traceback__)
    return (type(error).__name__, *((frame.filename, frame.lineno) for frame in frames[-3:]))


@contextmanager
def _bounded_time() -> Iterator[None]:
    def late(_number, _frame):
        raise TooSlowError(f"longer than {SLOW_S:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    outer_s, _interval = signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, outer_s)
        signal.signal(signal.SIGALRM, before)
