"""
What keeps a root file system: our sealed image, gocryptfs, and plain directories on ext4 and in memory.

Each is filled from tar streams, and mounted anew for each figure that depends on what the kernel remembers.
Plain directories are always there; to mount them is nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from bench.rootfs_server import BINDING
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.writer import SealedImageWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OURS: Final = "ours"
TREE: Final = "ours without EROFS"
GOCRYPTFS: Final = "gocryptfs"
NATIVE: Final = "ext4"
TMPFS: Final = "tmpfs"
_PIECE_BYTES: Final = 1 << 20
_MOUNTED_WITHIN_S: Final = 20.0
_KEY_BYTES: Final = 32


class Session(Protocol):
    """One life of a mount."""

    root: Path
    pid: int | None

    def mount(self) -> None:
        """Return as soon as the root can be read."""


class Store(Protocol):
    """One way to keep a tree."""

    name: str
    # What holds its bytes.
    home: Path
    in_memory: bool

    def fill(self, layers: Sequence[Path], tree: Path) -> float:
        """Replace what it keeps; return the seconds that took."""

    def session(self) -> Iterator[Session]:
        """Return a context with everything ready to mount."""


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


@dataclass(slots=True)
class _SealedSession:
    root: Path
    order: dict[str, object]
    process: subprocess.Popen[str]
    pid: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.pid = self.process.pid
        self._expect("ready")

    def mount(self) -> None:
        if self.process.stdin is None:
            raise RuntimeError("the server has no input")
        self.process.stdin.write(json.dumps(self.order) + "\n")
        self.process.stdin.flush()
        self._expect("mounted")

    def _expect(self, word: str) -> None:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith(word):
            raise RuntimeError(f"the server of the sealed image said {line!r} instead of {word}")


class SealedStore:
    """Our sealed image, served by a process that has loaded its modules; by one back end, or the best."""

    in_memory = False

    def __init__(self, name: str, directory: Path, *, backend: str = "", to_memory: bool = False) -> None:
        self.name = name
        self._base = directory / name.replace(" ", "-").replace(",", "")
        self._base.mkdir()
        self.home = self._base / "image"
        self._order: dict[str, object] = {
            "directory": str(self.home),
            "mountpoint": str(self._base / "root"),
            "work": str(self._base / "work"),
            "backend": backend,
            "writable": "memory",
            "to_memory": to_memory,
        }

    def fill(self, layers: Sequence[Path], _tree: Path) -> float:
        """Seal the layers."""
        shutil.rmtree(self.home, ignore_errors=True)
        key = os.urandom(_KEY_BYTES)
        begun = time.perf_counter()
        writer = SealedImageWriter(self.home, fdk=Secret(key), binding=BINDING)
        for layer in layers:
            writer.add_layer(_pieces(layer))
        image = writer.finish()
        taken = time.perf_counter() - begun
        self._order |= {"fdk": key.hex(), "manifest_sha256": image.manifest_sha256.hex()}
        return taken

    def share(self, other: SealedStore) -> None:
        """Read what another one sealed."""
        self.home = other.home
        self._order |= {name: other._order[name] for name in ("directory", "fdk", "manifest_sha256")}

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Start a server; it waits for its order."""
        for name in ("root", "work"):
            (self._base / name).mkdir()
        command = (sys.executable, "-m", "bench.rootfs_server")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield _SealedSession(self._base / "root", self._order, process)
        finally:
            process.communicate(timeout=_MOUNTED_WITHIN_S)
            for name in ("root", "work"):
                shutil.rmtree(self._base / name)


def _untar(tree: Path, target: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(("tar", "-xpf", tree, "--numeric-owner", "-C", target), check=True)
    return time.perf_counter() - begun


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]
