"""
Fork the server, and end it.

What the server needs is imported here, before there are two: boot needs most of it as well, and what was
loaded once takes time once and memory once.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Final, NoReturn

from enclave_cc.enclave.hardening import (
    ask_to_be_killed_last,
    end_with_parent,
    harden_process,
    name_process,
)
from enclave_cc.enclave.rootfs.server.service import serve

# The standard streams stay: what goes wrong at the very beginning is said there.
_FIRST_OTHER: Final = 3
_NAME: Final = "enclave-rootfs"


class ServerProcess:
    """The forked process, seen from boot; ``connection`` keeps the boundaries of messages."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        self._pidfd = os.pidfd_open(pid)
        self._exit_status: int | None = None

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status, negative for a signal; None if it still runs by then."""
        if self._exit_status is None and is_readable(self._pidfd, timeout_s):
            _, status = os.waitpid(self.pid, 0)
            self._exit_status = os.waitstatus_to_exitcode(status)
            os.close(self._pidfd)
        return self._exit_status

    def end(self, timeout_s: float) -> int:
        """Hang up, which the server takes as the order to stop; kill it if it takes too long."""
        self.connection.close()
        status = self.wait(timeout_s)
        if status is not None:
            return status
        os.kill(self.pid, signal.SIGKILL)
        # A process that waits for a failing disk dies when that lets go of it; nobody waits with it.
        status = self.wait(timeout_s)
        return -signal.SIGKILL if status is None else status


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Wait until there is something to read, or the end."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def fork_server() -> ServerProcess:
    """Fork a server that waits for its order; the caller has one thread and no secrets yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    boot = os.getpid()
    # What is here already is not walked again, and so not copied. Nor is it collected, in a process where
    # an object of boot's would close a number that is somebody else's by then.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        _live(theirs, boot)
    theirs.close()
    return ServerProcess(pid, ours)


def _live(connection: socket.socket, boot: int) -> NoReturn:
    """Be the server, and never return into what boot was doing."""
    status = 1
    try:
        _become(connection, boot)
        serve(connection)
        status = 0
    except BaseException as error:  # noqa: BLE001 - outermost boundary: boot notices the end
        with suppress(OSError):
            sys.stderr.write(f"root file system server: {type(error).__name__}\n")
            sys.stderr.flush()
    finally:
        os._exit(status)


def _become(connection: socket.socket, boot: int) -> None:
    """Leave behind what belongs to boot: its descriptors, its directory, its place in the kernel's lists."""
    end_with_parent(boot)
    harden_process(may_gain_privileges=False)
    ask_to_be_killed_last()
    name_process(_NAME)
    kept = connection.fileno()
    os.closerange(_FIRST_OTHER, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
