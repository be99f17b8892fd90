"""
Exit statuses of everything below the shim.

The shim is a subreaper: runc and the boot program leave containers behind as its children. A
container can end before its pid is known, so while a start is under way the statuses of
strangers are kept.
"""

from __future__ import annotations

import os

from enclave_cc.node.shim.reactor import READABLE
from enclave_cc.node.shim.signals import SIGCHLD, SIGINT, SIGPIPE, SIGTERM, set_wakeup_fd, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from enclave_cc.node.shim.reactor import Future, Reactor

_WAKEUPS_BYTES: Final = 4096
# The shell's convention for a process that a signal ended, which containerd follows.
_SIGNAL_BASE: Final = 128
_CHILD_DEFAULT_SIGNALS: Final = (SIGPIPE, SIGCHLD, SIGINT, SIGTERM)


class Reaper:
    """Waits for all children and tells those who watch them."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._watchers: dict[int, Future] = {}
        self._early: dict[int, int] = {}
        self._expecting = 0
        wakeups, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeups = wakeups
        set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal(SIGCHLD, _ignore)
        reactor.watch(wakeups, READABLE, self._woken)

    def spawn(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
    ) -> Future:
        """Run a program with the given descriptors as its 0, 1 and 2; the future is its exit status."""
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(descriptors)]
        pid = os.posix_spawn(
            program,
            list(arguments),
            environment,
            file_actions=actions,
            setsigmask=(),
            setsigdef=_CHILD_DEFAULT_SIGNALS,
        )
        return self.watch(pid)

    def watch(self, pid: int) -> Future:
        """Return a future of the exit status of a child, 128 + n for signal n."""
        future = self._reactor.future()
        if pid in self._early:
            future.resolve(self._early.pop(pid))
        else:
            self._watchers[pid] = future
        return future

    def expecting(self) -> Expecting:
        """Keep the statuses of unknown children for the length of a ``with`` block."""
        return Expecting(self)

    def expect(self, change: int) -> None:
        """Count the starts that are under way."""
        self._expecting += change
        if not self._expecting:
            self._early.clear()

    def _woken(self, _events: int) -> None:
        os.read(self._wakeups, _WAKEUPS_BYTES)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        status = code if code >= 0 else _SIGNAL_BASE - code
        watcher = self._watchers.pop(pid, None)
        if watcher is not None:
            watcher.resolve(status)
        elif self._expecting:
            self._early[pid] = status


class Expecting:
    """The span in which a child may end before it is known."""

    __slots__ = ("_reaper",)

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper

    def __enter__(self) -> None:
        self._reaper.expect(1)

    def __exit__(self, *_: object) -> None:
        self._reaper.expect(-1)


def _ignore(_signal_number: int, _frame: Any) -> None:
    """Do nothing: the wake-up descriptor carries the news."""
