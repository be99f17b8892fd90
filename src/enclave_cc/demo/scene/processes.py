"""
Start and stop the daemons of a scene, by process id only.

Every child has a session of its own, dies with us (PR_SET_PDEATHSIG), writes to a log file in the scene,
and must become ready within a bound. A child is never looked up by name, so a stranger's daemon cannot be
hit.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG: Final = 1
# A daemon that needs longer than this on an idle machine is not starting at all.
READY_WITHIN_S: Final = 30.0
# After SIGTERM; containerd with a few shims needs well under a second.
STOP_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.02
# What a failed start shows of the child's own words.
_LOG_TAIL_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: a name for log and messages, the command, and how one sees that it is ready."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running child and the file that holds what it said."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Process id, valid until `stop` returned."""
        return self.process.pid

    def stop(self, *, within_s: float = STOP_WITHIN_S) -> None:
        """SIGTERM, then SIGKILL after `within_s`; returns when the child is reaped."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Daemons:
    """The running children in order of start; `stop_all` goes backwards."""

    def __init__(self, log_directory: Path, *, group: Path, mark: Mapping[str, str]) -> None:
        """`group` is the cgroup.procs file to enter, `mark` what every child has in its environment."""
        self._log_directory = log_directory
        self._group = group
        self._mark = mark
        self._running: list[Daemon] = []
        # Loaded here, because between fork and exec nothing may be imported.
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def start(self, program: Program, *, ready_within_s: float = READY_WITHIN_S) -> Daemon:
        """Start and wait until ready; raise UnavailableError(daemon-not-ready) that quotes the log's end."""
        log = self._log_directory / f"{program.name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=program.directory,
                env=_environment({**program.environment, **self._mark}),
                start_new_session=True,
                preexec_fn=self._in_child,  # noqa: PLW1509 - system calls only
            )
        daemon = Daemon(program, process, log)
        self._running.append(daemon)
        _await_ready(daemon, time.monotonic() + ready_within_s)
        return daemon

    def stop(self, daemon: Daemon) -> None:
        """Stop one child and forget it."""
        daemon.stop()
        self._running.remove(daemon)

    def stop_all(self) -> None:
        """Stop every child, the last started first."""
        while self._running:
            self._running.pop().stop()

    def _in_child(self) -> None:
        """Enter the scene's control group and die with the parent; system calls only."""
        group = os.open(self._group, os.O_WRONLY)
        os.write(group, b"0")
        os.close(group)
        self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return a fixed environment: what the caller's shell holds must not change the scene."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        **extra,
    }


def _await_ready(daemon: Daemon, deadline: float) -> None:
    while not daemon.program.ready():
        if daemon.process.poll() is not None:
            raise _not_ready(daemon, f"ended with status {daemon.process.returncode}")
        if time.monotonic() > deadline:
            daemon.stop()
            raise _not_ready(daemon, "did not become ready in time")
        time.sleep(_POLL_S)


def _not_ready(daemon: Daemon, what: str) -> UnavailableError:
    end = daemon.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    return UnavailableError(
        "daemon-not-ready",
        f"{daemon.program.name} {what}",
        stage=Stage.LAUNCH,
        detail=f"{daemon.log}:\n{end}",
    )


def listens_on_port(port: int) -> Callable[[], bool]:
    """Ready when a TCP connection to loopback is accepted."""

    def ready() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return ready


def listens_on_socket(path: Path) -> Callable[[], bool]:
    """Ready when a connection to a Unix socket is accepted."""

    def ready() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            return probe.connect_ex(os.fspath(path)) == 0

    return ready


def free_port() -> int:
    """Find a loopback TCP port that is free now; a daemon that loses it to somebody fails loudly."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(command: Sequence[str], *, within_s: float, directory: Path | None = None) -> str:
    """Run a short program and return what it printed; raises UnavailableError(program-failed)."""
    try:
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=within_s,
            cwd=directory,
            env=_environment({"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "HOME": "/"}),
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        raise UnavailableError(
            "program-failed",
            f"{os.path.basename(command[0])} failed",  # noqa: PTH119 - a program name, not a file of ours
            stage=Stage.LAUNCH,
            detail=f"{' '.join(command)}: {error}\n{said.decode(errors='replace')[-_LOG_TAIL_BYTES:]}",
        ) from error
    return done.stdout.decode(errors="replace")
