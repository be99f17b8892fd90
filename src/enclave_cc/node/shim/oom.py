"""Notices when the kernel killed something of a container for lack of memory."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH110, PTH123

from __future__ import annotations

import os

from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.reactor import PRIORITY, READABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.node.shim.cgroups import Cgroups
    from enclave_cc.node.shim.reactor import Reactor


class OomWatch:
    """Watches ``memory.oom_control`` (version 1) through an eventfd, ``memory.events`` (2) directly."""

    def __init__(self, reactor: Reactor, on_oom: Callable[[], None]) -> None:
        self._reactor = reactor
        self._on_oom = on_oom
        self._descriptors: list[int] = []
        self._seen = 0

    def open(self, cgroups: Cgroups) -> None:
        """Begin; a kernel without the files is not watched."""
        try:
            if "memory" in cgroups.paths:
                self._open_v1(cgroups.paths["memory"])
            elif "" in cgroups.paths:
                self._open_v2(cgroups.paths[""])
        except OSError as error:
            log("oom-unwatched", error=str(error))
            self.close()

    def close(self) -> None:
        """Stop watching."""
        while self._descriptors:
            descriptor = self._descriptors.pop()
            self._reactor.forget(descriptor)
            os.close(descriptor)

    def _open_v1(self, directory: str) -> None:
        notified = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._descriptors.append(notified)
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.append(control)
        with open(f"{directory}/cgroup.event_control", "w", encoding="ascii") as file:
            file.write(f"{notified} {control}")
        self._reactor.watch(notified, READABLE, lambda _: self._notified_v1(notified, directory))

    def _notified_v1(self, notified: int, directory: str) -> None:
        os.eventfd_read(notified)
        # The kernel also notifies when the group is removed.
        if os.path.exists(f"{directory}/memory.oom_control"):
            self._on_oom()
        else:
            self.close()

    def _open_v2(self, directory: str) -> None:
        events = os.open(f"{directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.append(events)
        self._seen = _oom_kills(events)
        self._reactor.watch(events, PRIORITY, lambda _: self._notified_v2(events))

    def _notified_v2(self, events: int) -> None:
        try:
            kills = _oom_kills(events)
        except OSError:
            self.close()
            return
        if kills > self._seen:
            self._seen = kills
            self._on_oom()


def _oom_kills(events: int) -> int:
    for line in os.pread(events, 4096, 0).splitlines():
        name, _, count = line.partition(b" ")
        if name == b"oom_kill":
            return int(count)
    return 0
