"""
The agent's log: one JSON object per line on a stream that the host reads.

The host is untrusted, so an event has a name, codes, ids and durations; never a value from an image, a policy
or a key. Values go to the owner through the broker.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TextIO

from enclave_cc.core import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable


class EventLog:
    """Writes events with their time; safe to use from several threads."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def event(self, name: str, **fields: str | int | bool) -> None:
        """Write one event; a reader that went away is no reason to stop working."""
        line = strict_json.canonical({"event": name, "unix_ms": int(self._clock() * 1000), **fields}).decode()
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return


class FaultHandler(logging.Handler):
    """Writes what libraries log as events that say where and what kind, without words or tracebacks."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        kind = record.exc_info[0] if record.exc_info else None
        self._log.event(
            "fault", at=f"{record.name}:{record.lineno}", error=kind.__name__ if kind is not None else ""
        )
