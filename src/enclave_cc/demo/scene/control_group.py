"""
The control group of one scene: every process that a scene starts is in it or below it.

Membership is the one property that a process of the scene cannot shed by changing its name, session or
parent, so it is how leftovers are counted and found. Knows both layouts of /sys/fs/cgroup.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
# The kernel frees a group a moment after its last process is reaped.
_REMOVE_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A group by its path below every hierarchy, such as `/enclave-cc-demo-ab12`."""

    path: str
    mount: Path = CGROUPS

    @property
    def trusted(self) -> ControlGroup:
        """The group of the owner's side: registry, platform and broker."""
        return ControlGroup(f"{self.path}/trusted", self.mount)

    @property
    def node(self) -> ControlGroup:
        """The group of node daemon and containerd; shims and boot programs inherit it."""
        return ControlGroup(f"{self.path}/node", self.mount)

    @property
    def entry(self) -> Path:
        """The file to which a process writes itself to be in the group."""
        unified = (self.mount / "cgroup.controllers").exists()
        hierarchy = self.mount if unified else self.mount / "pids"
        return hierarchy / self.path.lstrip("/") / "cgroup.procs"

    @property
    def pods(self) -> str:
        """Parent of the pods' groups, beside the daemons': in cgroup v2 inner groups hold no processes."""
        return f"{self.path}/pods"

    def create(self) -> None:
        """Make the daemons' groups; those of pods are made by runc."""
        for group in (self.trusted, self.node):
            group.entry.parent.mkdir(parents=True, exist_ok=True)

    def holds(self, process: Path) -> bool:
        """Whether a process, named by its directory in /proc, is in the group or below it."""
        groups = (line.split(":", 2)[-1] for line in _text(process / "cgroup").splitlines())
        return any(group == self.path or group.startswith(f"{self.path}/") for group in groups)

    def directories(self) -> tuple[Path, ...]:
        """List all directories of the group in all hierarchies, the deepest first."""
        tops = [self.mount / self.path.lstrip("/")]
        with contextlib.suppress(OSError):
            tops += [entry / self.path.lstrip("/") for entry in self.mount.iterdir()]
        found = [Path(directory) for top in tops for directory, _, _ in os.walk(top)]
        return tuple(sorted(found, key=lambda path: len(path.parts), reverse=True))

    def pod_directories(self) -> tuple[Path, ...]:
        """As `directories`, without those that the scene itself has as long as it lives."""
        own = (self.path, self.pods, self.trusted.path, self.node.path)
        return tuple(path for path in self.directories() if not os.fspath(path).endswith(own))

    def remove(self) -> None:
        """Remove the empty groups; those that still hold a process stay."""
        deadline = time.monotonic() + _REMOVE_WITHIN_S
        while directories := self.directories():
            for directory in directories:
                with contextlib.suppress(OSError):
                    directory.rmdir()
            if time.monotonic() > deadline:
                return
            time.sleep(0.02 if self.directories() else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        # The process ended while we looked.
        return ""
