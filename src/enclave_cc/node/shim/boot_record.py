"""A note beside a container: which process boots it, so that it can be ended without a shim."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

import os
from time import monotonic, sleep

from enclave_cc.node.shim.directories import write_private
from enclave_cc.node.shim.json_text import InvalidJson, dumps, loads
from enclave_cc.node.shim.signals import SIGKILL, pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

NAME: Final = "boot.pid"
# proc(5): field 22 is the start time; counted after the name, which ends with the last parenthesis.
_START_TIME_AFTER_NAME: Final = 19
# Boot sees the end of its leash by itself and needs a moment to delete its container.
_OWN_END_S: Final = 2.0
_POLL_S: Final = 0.02
_MAX_BYTES: Final = 4096
# proc(5): start times count from the boot of the machine, so they name a process until the next one only.
_MACHINE_BOOT: Final = "/proc/sys/kernel/random/boot_id"


def write(path: str, pid: int) -> None:
    """Note a process by pid, start time and boot of the machine."""
    note = {"pid": pid, "start_time": _start_time(pid), "machine_boot": _machine_boot()}
    write_private(path, dumps(note))


def end(paths: Sequence[str]) -> None:
    """Let the noted processes end by themselves, kill them otherwise; a reused pid is left alone."""
    running = [note for note in map(_read, paths) if note is not None and _runs(*note)]
    give_up = monotonic() + _OWN_END_S
    while running and monotonic() < give_up:
        sleep(_POLL_S)
        running = [note for note in running if _runs(*note)]
    for pid, start_time in running:
        _kill(pid, start_time)


def _read(path: str) -> tuple[int, int] | None:
    try:
        with open(path, "rb") as file:
            note: Any = loads(file.read(_MAX_BYTES))
        if note["machine_boot"] != _machine_boot():
            return None
        return int(note["pid"]), int(note["start_time"])
    except (OSError, InvalidJson, KeyError, TypeError, ValueError):
        return None


def _runs(pid: int, start_time: int) -> bool:
    return start_time != 0 and _start_time(pid) == start_time


def _start_time(pid: int) -> int:
    """Return a process's start time in clock ticks, zero when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[_START_TIME_AFTER_NAME])


def _machine_boot() -> str:
    with open(_MACHINE_BOOT, "rb") as file:
        return file.read(_MAX_BYTES).decode().strip()


def _kill(pid: int, start_time: int) -> None:
    """Send SIGKILL through a pidfd, after another look: until it is open, the number may change hands."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _runs(pid, start_time):
            pidfd_send_signal(descriptor, SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
