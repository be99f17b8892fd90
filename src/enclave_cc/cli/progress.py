"""
How long work shows itself on standard error: bars for a terminal, lines for a log, JSON for a program.

Bars need a library that takes its time to load, so it is loaded only where there is a terminal.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_INTERVAL_S: Final = 10.0
_JSON_INTERVAL_S: Final = 1.0
_SHORT_CHARS: Final = 19
_MEGABYTE: Final = 1_000_000


class ProgressForm(StrEnum):
    """What to show; ``auto`` is bars on a terminal and lines elsewhere."""

    AUTO = "auto"
    BARS = "bars"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


class Renderer(Protocol):
    """Hears of streams, from several threads."""

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Hear that a stream begins."""

    def advance(self, task: str, moved_bytes: int) -> None:
        """Hear that a stream went on."""

    def end(self, task: str) -> None:
        """Hear that a stream ended."""


@contextmanager
def showing(form: ProgressForm, stream: TextIO | None = None) -> Iterator[Renderer | None]:
    """Show progress while the block runs; None means that nobody wants to know."""
    out = stream or sys.stderr
    if form is ProgressForm.AUTO:
        form = ProgressForm.BARS if out.isatty() else ProgressForm.LINES
    match form:
        case ProgressForm.BARS:
            with _bars(out) as progress:
                yield Bars(progress)
        case ProgressForm.LINES:
            yield Lines(out)
        case ProgressForm.JSON:
            yield JsonLines(out)
        case _:
            yield None


class _Counts:
    """How far all streams are, together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said = self._began = clock()
        self.begun = self.ended = self.total_bytes = self.moved_bytes = 0

    def begin(self, total_bytes: int | None) -> None:
        with self._lock:
            self.begun += 1
            self.total_bytes += total_bytes or 0

    def advance(self, moved_bytes: int, interval_s: float) -> bool:
        """Count; tell whether it is time to say something."""
        with self._lock:
            self.moved_bytes += moved_bytes
            now = self._clock()
            due = now - self._said >= interval_s
            if due:
                self._said = now
        return due

    def end(self) -> None:
        with self._lock:
            self.ended += 1

    @property
    def rate(self) -> float:
        """Return bytes per second since the beginning."""
        return self.moved_bytes / max(self._clock() - self._began, 1e-9)


class Lines:
    """One line now and then."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._counts = _Counts(clock)

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Count the stream."""
        del task
        self._counts.begin(total_bytes)

    def advance(self, task: str, moved_bytes: int) -> None:
        """Say how far everything is, if it was not said lately."""
        del task
        if self._counts.advance(moved_bytes, LINE_INTERVAL_S):
            counts = self._counts
            done, total = counts.moved_bytes / _MEGABYTE, counts.total_bytes / _MEGABYTE
            print(  # this is the command line's talk
                f"{counts.ended} of {counts.begun} layers done, {done:.1f} of {total:.1f} MB, "
                f"{counts.rate / _MEGABYTE:.1f} MB/s",
                file=self._out,
                flush=True,
            )

    def end(self, task: str) -> None:
        """Count the end."""
        del task
        self._counts.end()


class JsonLines:
    """One JSON object per event: ``begin``, ``advance`` (at most one a second), ``end``."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._counts = _Counts(clock)

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Say so."""
        self._counts.begin(total_bytes)
        self._say({"event": "begin", "blob": task, "total_bytes": total_bytes})

    def advance(self, task: str, moved_bytes: int) -> None:
        """Say how far everything is."""
        del task
        if self._counts.advance(moved_bytes, _JSON_INTERVAL_S):
            moved, total = self._counts.moved_bytes, self._counts.total_bytes
            self._say({"event": "advance", "moved_bytes": moved, "total_bytes": total})

    def end(self, task: str) -> None:
        """Say so."""
        self._counts.end()
        self._say({"event": "end", "blob": task})

    def _say(self, event: dict[str, object]) -> None:
        print(json.dumps(event), file=self._out, flush=True)  # this is the command line's talk


class Bars:
    """A bar per stream and one for all of them."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._all = progress.add_task("all", total=0)
        self._tasks: dict[str, TaskID] = {}
        self._total_bytes = 0
        self._lock = threading.Lock()

    def begin(self, task: str, total_bytes: int | None) -> None:
        """Add a bar."""
        with self._lock:
            self._total_bytes += total_bytes or 0
            self._progress.update(self._all, total=self._total_bytes)
            self._tasks[task] = self._progress.add_task(task[:_SHORT_CHARS], total=total_bytes)

    def advance(self, task: str, moved_bytes: int) -> None:
        """Move two bars."""
        self._progress.advance(self._tasks[task], moved_bytes)
        self._progress.advance(self._all, moved_bytes)

    def end(self, task: str) -> None:
        """Take the bar away again: what is done needs no place."""
        self._progress.update(self._tasks[task], visible=False)


def _bars(out: TextIO) -> RichProgress:
    from rich.console import Console  # noqa: PLC0415  # only a terminal pays for it
    from rich.progress import (  # noqa: PLC0415  # as above
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=out), transient=True)
