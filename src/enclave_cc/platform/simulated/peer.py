"""Which process is at the other end of a socket, and whether it is still the same one.

A process id can be used again, and a connected socket can be handed to another process. So the kernel's
handle for the process that connected is asked for, and a connection whose process has ended has no
identity any more.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Linux 6.5; the socket module has no name for it yet.
_SO_PEERPIDFD: Final = 77
# Field 22 of proc(5) `stat`, counted after the command's closing parenthesis.
_START_TIME_INDEX: Final = 19


def connected_pid(connection: socket.socket, peer_pid: int) -> int | None:
    """Pid of the process that connected, None if it has ended.

    Before Linux 6.5 there is no handle for it; then `peer_pid` from SO_PEERCRED must do.
    """
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except ProcessLookupError:
        return None
    except OSError:
        return peer_pid
    try:
        return pid_of(pidfd)
    finally:
        os.close(pidfd)


def pid_of(pidfd: int) -> int | None:
    """Pid of a live process by its handle, None if it has ended."""
    for line in _lines(Path(f"/proc/self/fdinfo/{pidfd}")):
        name, _, value = line.partition(":")
        if name == "Pid":
            pid = int(value)
            return pid if pid > 0 else None
    return None


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_START_TIME_INDEX])


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
