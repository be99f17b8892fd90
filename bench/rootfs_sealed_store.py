"""Our sealed image as a store: sealed in this process, served by one that boot would fork."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.rootfs_reads import cpu_s
from bench.rootfs_server import CONTAINER, IMAGE, POD
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.rootfs_stores import Session

_PIECE_BYTES: Final = 1 << 20
_ENDED_WITHIN_S: Final = 20.0
_KEY_BYTES: Final = 32
# Longer than anything that the server waits for while it makes itself ready.
_IDLE_S: Final = 0.05


class _SealedSession:
    """A server that has tried out how to mount, as it does while boot proves itself."""

    def __init__(self, root: Path, order: dict[str, object], process: subprocess.Popen[str]) -> None:
        self.root = root
        self._process = process
        self._say(json.dumps(order))
        self.pid: int | None = int(self._hear())
        _wait_until_idle(self.pid)

    def mount(self) -> None:
        """Hand the key over; return when the image is mounted."""
        self._say("mount")
        self._hear()

    def _say(self, line: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the server has no input")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the server of the sealed image has ended")
        return line


class SealedStore:
    """Our sealed image, served by a process that has loaded its modules; by one back end, or the best."""

    def __init__(self, name: str, directory: Path, *, backend: str = "", to_memory: bool = False) -> None:
        self.name = name
        # Where it is read from; it is kept on the disk.
        self.in_memory = to_memory
        self._base = directory / name.replace(" ", "-").replace(",", "")
        self._base.mkdir()
        self.home = self._base / "image"
        self._order: dict[str, object] = {
            "directory": str(self.home),
            "mountpoint": str(self._base / "root"),
            "work": str(self._base / "work"),
            "candidates": [backend] if backend else [],
            "decrypt_to_memory": to_memory,
        }

    def fill(self, layers: Sequence[Path], _tree: Path) -> float:
        """Seal the layers."""
        shutil.rmtree(self.home, ignore_errors=True)
        key = os.urandom(_KEY_BYTES)
        begun = time.perf_counter()
        binding = Binding(POD, CONTAINER, IMAGE)
        writer = SealedImageWriter(self.home, fdk=Secret(key), binding=binding)
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
            process.communicate(timeout=_ENDED_WITHIN_S)
            for name in ("root", "work"):
                shutil.rmtree(self._base / name)


def _wait_until_idle(pid: int) -> None:
    """Wait until a process has stopped working for a moment."""
    before, now = -1.0, cpu_s(pid)
    while now > before:
        time.sleep(_IDLE_S)
        before, now = now, cpu_s(pid)


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]
