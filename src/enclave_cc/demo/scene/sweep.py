"""
Remove what a killed demo left behind: processes, mounts, control groups, directories.

Only scenes that are recorded by a lock file are touched, and only if nobody holds the lock: the owner of a
living scene does, so two demos on one machine leave each other alone. Processes are found by control group,
or by a mark in their environment; never by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.demo.scene.control_group import ControlGroup
from enclave_cc.demo.scene.paths import SCENES, ScenePaths
from enclave_cc.node.shim.mounts import detach_below, mounts_below

if TYPE_CHECKING:
    from collections.abc import Iterator

SCENE_VARIABLE: Final = "ENCLAVE_CC_SCENE"
LOCK_SUFFIX: Final = ".lock"
_KILL_WITHIN_S: Final = 10.0
_MAX_COMMAND_CHARS: Final = 120


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What of a scene exists at one moment."""

    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    control_groups: tuple[str, ...]
    directories: tuple[str, ...]

    def beyond(self, before: Leftovers) -> Leftovers:
        """Return what exists now and did not before."""
        return Leftovers(
            tuple(sorted(set(self.processes) - set(before.processes))),
            tuple(sorted(set(self.mounts) - set(before.mounts))),
            tuple(sorted(set(self.control_groups) - set(before.control_groups))),
            tuple(sorted(set(self.directories) - set(before.directories))),
        )

    def __bool__(self) -> bool:
        return bool(self.processes or self.mounts or self.control_groups or self.directories)


class SceneLock:
    """Held by the owner of a scene for as long as it lives, however it dies."""

    def __init__(self, paths: ScenePaths) -> None:
        self._path = lock_file(paths)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Forget the scene; to be called when nothing of it is left."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def lock_file(paths: ScenePaths) -> Path:
    """Beside the scene's directory, so that it exists before and after it."""
    return paths.root.with_name(paths.root.name + LOCK_SUFFIX)


def sweep(scenes: Path = SCENES) -> tuple[Path, ...]:
    """Remove all dead scenes below `scenes`; returns their directories."""
    return tuple(paths.root for paths, lock in _dead_scenes(scenes) if _remove_locked(paths, lock))


def leftovers(paths: ScenePaths) -> Leftovers:
    """Count what exists of a scene on the node's side; of directories and groups, those of single pods."""
    trusted = ControlGroup(paths.cgroup).trusted
    return Leftovers(
        processes=tuple(_described(pid) for pid in processes_of(paths) if not trusted.holds(_directory(pid))),
        mounts=tuple(mounts_below(os.fspath(paths.root))),
        control_groups=tuple(map(str, ControlGroup(paths.cgroup).pod_directories())),
        directories=tuple(str(entry) for parent in _pod_parents(paths) for entry in _entries(parent)),
    )


def remove_scene(paths: ScenePaths) -> None:
    """Kill, unmount and delete everything of a scene; safe to repeat."""
    _kill_all(paths)
    detach_below(os.fspath(paths.root))
    _remove_shim_sockets(paths)
    ControlGroup(paths.cgroup).remove()
    shutil.rmtree(paths.root, ignore_errors=True)


def processes_of(paths: ScenePaths, *, processes: Path = Path("/proc")) -> tuple[int, ...]:
    """List processes in the scene's control group, or with its mark in the environment; never our own."""
    pids = (int(entry.name) for entry in processes.iterdir() if entry.name.isdigit())
    return tuple(sorted(pid for pid in pids if pid != os.getpid() and _belongs(paths, processes / str(pid))))


def _dead_scenes(scenes: Path) -> Iterator[tuple[ScenePaths, SceneLock]]:
    for lock in sorted(scenes.glob(f"*{LOCK_SUFFIX}")):
        paths = ScenePaths(lock.with_name(lock.name.removesuffix(LOCK_SUFFIX)))
        with contextlib.suppress(BlockingIOError):
            yield paths, SceneLock(paths)


def _remove_locked(paths: ScenePaths, lock: SceneLock) -> bool:
    remove_scene(paths)
    lock.release()
    return True


def _directory(pid: int) -> Path:
    return Path("/proc") / str(pid)


def _described(pid: int) -> str:
    """Name a process so that a person can look for its origin."""
    try:
        command = (_directory(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = ""
    return f"{pid} {command[:_MAX_COMMAND_CHARS]}".strip()


def _kill_all(paths: ScenePaths) -> None:
    deadline = time.monotonic() + _KILL_WITHIN_S
    while pids := processes_of(paths):
        for pid in pids:
            _kill(paths, pid)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _kill(paths: ScenePaths, pid: int) -> None:
    """SIGKILL through a pidfd, looked at again once it is pinned: the number may have changed hands."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _belongs(paths, _directory(pid)):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _remove_shim_sockets(paths: ScenePaths) -> None:
    """Remove sockets that shims made in a directory that all containerds share; bundles name theirs."""
    for address in paths.containerd.glob("state/*/*/*/address"):
        with contextlib.suppress(OSError):
            text = address.read_text()
            if text.startswith("unix:///run/containerd/s/"):
                Path(text.removeprefix("unix://")).unlink()


def _pod_parents(paths: ScenePaths) -> tuple[Path, ...]:
    return (
        *paths.node.glob("pods"),
        *paths.node.glob("pods/*/sealed"),
        *paths.runc.glob("*"),
        *paths.containerd.glob("state/io.containerd.runtime.v2.task/*"),
    )


def _entries(directory: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(directory.iterdir()))
    except OSError:
        return ()


def _belongs(paths: ScenePaths, process: Path) -> bool:
    mark = os.fsencode(f"{SCENE_VARIABLE}={paths.root}")
    return ControlGroup(paths.cgroup).holds(process) or mark in _environment(process)


def _environment(process: Path) -> tuple[bytes, ...]:
    try:
        return tuple((process / "environ").read_bytes().split(b"\0"))
    except OSError:
        return ()
