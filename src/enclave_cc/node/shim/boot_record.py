"""A note beside the container: which process boots it, so that ``delete`` can end it without a shim."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

import os
from time import monotonic, sleep

from enclave_cc.node.shim.directories import write_private
from enclave_cc.node.shim.json_text import InvalidJson, dumps, loads
from enclave_cc.node.shim.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME: Final = "boot.pid"
# proc(5): field 22 is the start time; counted after the name, which ends with the last parenthesis.
_START_TIME_AFTER_NAME: Final = 19
# Boot sees the end of its leash by itself and needs a moment to delete its container.
_OWN_END_S: Final = 2.0
_POLL_S: Final = 0.02
_MAX_BYTES: Final = 4096


def write(path: str, pid: int) -> None:
    """Note a process by pid and start time."""
    write_private(path, dumps({"pid": pid, "start_time": _start_time(pid)}))


def end(path: str) -> None:
    """Let the noted process end by itself, kill it otherwise; a reused pid is left alone."""
    noted = _read(path)
    if noted is None:
        return
    pid, start_time = noted
    give_up = monotonic() + _OWN_END_S
    while start_time and _start_time(pid) == start_time:
        if monotonic() > give_up:
            _kill(pid)
            return
        sleep(_POLL_S)


def _read(path: str) -> tuple[int, int] | None:
    try:
        with open(path, "rb") as file:
            note = loads(file.read(_MAX_BYTES))
        return int(note["pid"]), int(note["start_time"])
    except (OSError, InvalidJson, KeyError, TypeError, ValueError):
        return None


def _start_time(pid: int) -> int:
    """Return a process's start time in clock ticks, zero when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[_START_TIME_AFTER_NAME])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
    except ProcessLookupError:
        return
