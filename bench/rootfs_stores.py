"""
What keeps a root file system: gocryptfs, and plain directories on ext4 and in memory; ours is beside.

Each is filled from a tar stream, and mounted anew for each figure that depends on what the kernel remembers.
Plain directories are always there; to mount them is nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OURS: Final = "ours"
TREE: Final = "ours, no EROFS"
DECRYPTED: Final = "ours, in memory"
GOCRYPTFS: Final = "gocryptfs"
NATIVE: Final = "ext4"
OVERLAID: Final = "ext4 + overlay"
TMPFS: Final = "tmpfs"
_MOUNTED_WITHIN_S: Final = 20.0
_KEY_BYTES: Final = 32


class Session(Protocol):
    """One life of a mount."""

    root: Path
    pid: int | None

    def mount(self) -> None:
        """Return as soon as the root can be read."""


class Readable(Protocol):
    """One way to read a tree."""

    name: str
    # What holds its bytes.
    home: Path
    in_memory: bool

    def session(self) -> Iterator[Session]:
        """Return a context with everything ready to mount."""


class Store(Readable, Protocol):
    """One way to keep a tree."""

    def fill(self, layers: Sequence[Path], tree: Path) -> float:
        """Replace what it keeps; return the seconds that took."""


@dataclass(slots=True)
class _PlainSession:
    root: Path
    pid: int | None = None

    def mount(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class PlainStore:
    """A directory."""

    name: str
    home: Path
    in_memory: bool = False

    def fill(self, _layers: Sequence[Path], tree: Path) -> float:
        """Unpack the merged tree."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        return _untar(tree, self.home)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Return the directory."""
        yield _PlainSession(self.home)


@dataclass(slots=True)
class _OverlaidSession:
    root: Path
    lower: Path
    scratch: Path
    pid: int | None = None

    def mount(self) -> None:
        """Mount memory for what is written, and the overlay."""
        _mount("tmpfs", self.scratch)
        for name in ("upper", "work"):
            (self.scratch / name).mkdir()
        upper = f"upperdir={self.scratch}/upper,workdir={self.scratch}/work"
        _mount("overlay", self.root, f"lowerdir={self.lower},{upper}")


class OverlaidStore:
    """Another one's directory as containers get it: below an overlay, with memory on top."""

    in_memory = False

    def __init__(self, name: str, directory: Path, home: Path) -> None:
        self.name = name
        self.home = home
        self._root, self._scratch = directory / "overlay-root", directory / "overlay-scratch"
        for path in (self._root, self._scratch):
            path.mkdir()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Return an overlay that is not mounted yet."""
        yield _OverlaidSession(self._root, self.home, self._scratch)
        for path in (self._root, self._scratch):
            subprocess.run(("umount", str(path)), check=True)


class _GocryptfsSession:
    def __init__(self, store: GocryptfsStore) -> None:
        self.root = store.mountpoint
        self.pid: int | None = None
        self._command = store.command
        self._process: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        before = self.root.stat().st_dev
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = self._process.pid
        deadline = time.monotonic() + _MOUNTED_WITHIN_S
        while self.root.stat().st_dev == before:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("gocryptfs did not mount")
            time.sleep(0.0005)

    def close(self) -> None:
        if self._process is not None:
            subprocess.run(("umount", self.root), check=True)
            self._process.wait()


class GocryptfsStore:
    """Debian's gocryptfs with its defaults, but a cheap password hash: mounting is not about that."""

    name = GOCRYPTFS
    in_memory = False

    def __init__(self, directory: Path) -> None:
        self.home = directory / "gocryptfs"
        self.mountpoint = directory / "gocryptfs-root"
        self._password = directory / "gocryptfs-password"
        self._password.write_bytes(os.urandom(_KEY_BYTES).hex().encode())
        self.mountpoint.mkdir()

    @property
    def command(self) -> tuple[str, ...]:
        """Return how it is mounted."""
        options = ("-fg", "-q", "-nosyslog", "-passfile", str(self._password))
        return ("gocryptfs", *options, str(self.home), str(self.mountpoint))

    def fill(self, _layers: Sequence[Path], tree: Path) -> float:
        """Unpack the merged tree through it."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        init = ("gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", str(self._password))
        subprocess.run((*init, str(self.home)), check=True, capture_output=True)
        with self.session() as session:
            session.mount()
            return _untar(tree, session.root)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Return a mount that is not made yet: gocryptfs has no other beginning than its start."""
        session = _GocryptfsSession(self)
        try:
            yield session
        finally:
            session.close()


def _mount(kind: str, target: Path, options: str = "rw") -> None:
    subprocess.run(("mount", "-t", kind, "-o", options, "bench", str(target)), check=True)


def _untar(tree: Path, target: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(("tar", "-xpf", tree, "--numeric-owner", "-C", target), check=True)
    return time.perf_counter() - begun
