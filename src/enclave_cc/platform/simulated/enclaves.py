"""Which process is which enclave: recorded when it is launched, never claimed by the process.

A record belongs to one process (its kernel handle and start time), not to its pid number and not to its
children.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.platform.simulated import peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from enclave_cc.formats.sgx.report import ReportBody

# Two per container on a node that runs a few hundred; each record holds one descriptor.
_MAX_ENCLAVES: Final = 4096


@dataclass(frozen=True, slots=True)
class Enclave:
    """A launched enclave."""

    identity: ReportBody
    initdata_digest: bytes


@dataclass(frozen=True, slots=True)
class Process:
    """A process held by its kernel handle, so that its pid cannot come to mean another one unnoticed."""

    pid: int
    start_time: int
    pidfd: int

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return peer.pid_of(self.pidfd) == self.pid and peer.start_time(self.pid) == self.start_time

    def close(self) -> None:
        """Let go of the handle."""
        with contextlib.suppress(OSError):
            os.close(self.pidfd)


@contextlib.contextmanager
def hold(pid: int) -> Iterator[Process]:
    """Hold a live process while it is measured; RefusedError if there is none."""
    started = peer.start_time(pid) if pid > 0 else None
    if started is None:
        raise refused_launch("no such process")
    try:
        process = Process(pid, started, os.pidfd_open(pid))
    except OSError as error:
        raise refused_launch("no such process") from error
    try:
        yield process
    except BaseException:
        process.close()
        raise


class EnclaveRegistry:
    """The live enclaves of this platform."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[Process, Enclave]] = {}
        self._lock = threading.Lock()

    def record(self, process: Process, enclave: Enclave) -> None:
        """Bind an identity to a process for the rest of its life; a second one is refused."""
        with self._lock:
            self._forget_ended()
            if process.pid in self._records:
                raise refused_launch("the process is an enclave already")
            if len(self._records) >= _MAX_ENCLAVES:
                raise UnavailableError(
                    "unavailable", "the simulated platform runs too many enclaves", stage=Stage.PLATFORM
                )
            if not process.alive:
                raise refused_launch("the process has ended")
            self._records[process.pid] = (process, enclave)

    def of_connection(self, connection: socket.socket, peer_pid: int) -> Enclave:
        """Enclave of the process that connected; RefusedError `no-enclave` if it is none."""
        pid = peer.connected_pid(connection, peer_pid)
        with self._lock:
            found = self._records.get(pid) if pid is not None else None
            if found is not None and found[0].alive:
                return found[1]
        raise RefusedError(
            "no-enclave", "the caller is no enclave", stage=Stage.PLATFORM, detail=f"pid {pid or 'ended'}"
        )

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            for process, _ in self._records.values():
                process.close()
            self._records.clear()

    def _forget_ended(self) -> None:
        for pid, (process, _) in list(self._records.items()):
            if not process.alive:
                process.close()
                del self._records[pid]


def refused_launch(reason: str) -> RefusedError:
    """Build the error for a launch that is not allowed."""
    return RefusedError(
        "launch-refused", "the enclave launch was refused", stage=Stage.PLATFORM, detail=reason
    )
