"""Where a container's control groups are, version 1, 2 or both; learned while its process lives."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH112, PTH123

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ROOT: Final = "/sys/fs/cgroup"
_UNIFIED_OF_HYBRID: Final = f"{_ROOT}/unified"
# A container's pids cgroup bounds this in practice; a reply must fit into one frame.
_MAX_PIDS: Final = 65536


class Cgroups:
    """Controller name to directory; the unified hierarchy has the empty name."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}

    def learn(self, pid: int) -> None:
        """Read a process's membership; a process that has ended teaches nothing."""
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            return
        hybrid = os.path.isdir(_UNIFIED_OF_HYBRID)
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controllers:
                hierarchy = f"{_ROOT}/{controllers.removeprefix('name=')}"
            else:
                hierarchy = _UNIFIED_OF_HYBRID if hybrid else _ROOT
            for controller in controllers.split(","):
                self.paths[controller] = hierarchy + path

    def pids(self) -> list[int]:
        """List the processes below."""
        found: list[int] = []
        directories = [path] if (path := self.paths.get("devices") or self.paths.get("")) else []
        while directories and len(found) < _MAX_PIDS:
            directory = directories.pop()
            try:
                with open(f"{directory}/cgroup.procs", "rb") as file:
                    found += [int(line) for line in file]
                directories += [entry.path for entry in os.scandir(directory) if entry.is_dir()]
            except OSError:
                continue
        return found
