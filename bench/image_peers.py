"""
What images are pulled from, and what else pulls them: Debian's registry, skopeo + umoci, a containerd.

Daemons listen on loopback or in the given directory, die with us, and are ended by their process id.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import zstandard
from isal import igzip

from enclave_cc.demo.scene.processes import free_port, listens_on_port, listens_on_socket
from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_READY_WITHIN_S: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PIECE_BYTES: Final = 1 << 20


class _Readable(Protocol):
    def readinto(self, buffer: bytearray) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took: of the clock, and of all processors together."""

    wall_s: float
    cpu_s: float


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Serve an empty registry below a directory; yield its host and port."""
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (directory / "registry.json").write_text(json.dumps(settings))
    with _daemon(
        ("docker-registry", "serve", str(directory / "registry.json")), listens_on_port(port), directory
    ):
        yield f"127.0.0.1:{port}"


def skopeo_umoci(image: str, directory: Path) -> Spent:
    """Copy the image into a layout and unpack it, as root file systems are made without a daemon."""
    layout, bundle = directory / "layout", directory / "bundle"
    begun, before = time.perf_counter(), _children_cpu_s()
    copy = ("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}", f"oci:{layout}:v1")
    _run(copy)
    _run(("umoci", "unpack", "--image", f"{layout}:v1", str(bundle)))
    spent = Spent(time.perf_counter() - begun, _children_cpu_s() - before)
    shutil.rmtree(layout)
    shutil.rmtree(bundle)
    return spent


class Containerd:
    """A containerd that nobody else uses, without its CRI."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._socket = str(directory / "containerd.sock")
        self._pid = pid

    @classmethod
    @contextmanager
    def started(cls, directory: Path) -> Iterator[Containerd]:
        """Start one with root, state and socket in a directory."""
        socket = directory / "containerd.sock"
        config = (
            "version = 2",
            f"root = {json.dumps(str(directory / 'root'))}",
            f"state = {json.dumps(str(directory / 'state'))}",
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]',
            f"[grpc]\naddress = {json.dumps(str(socket))}",
            f"[ttrpc]\naddress = {json.dumps(str(directory / 'ttrpc.sock'))}",
        )
        (directory / "containerd.toml").write_text("\n".join(config))
        command = ("containerd", "--config", str(directory / "containerd.toml"))
        with _daemon(command, listens_on_socket(socket), directory) as pid:
            yield cls(directory, pid)

    def pull(self, image: str) -> Spent:
        """Pull and unpack into overlay snapshots; then remove both, which is not counted."""
        begun, before = time.perf_counter(), _children_cpu_s() + _cpu_s(self._pid)
        self._ctr("image", "pull", "--plain-http", "--snapshotter", "overlayfs", image)
        taken = time.perf_counter() - begun
        spent = Spent(taken, _children_cpu_s() + _cpu_s(self._pid) - before)
        self._ctr("image", "rm", "--sync", image)
        return spent

    def _ctr(self, *arguments: str) -> None:
        _run(("ctr", "--address", self._socket, "--namespace", "bench", *arguments))


def inflate_only(blobs: Sequence[Path], compression: Compression) -> Spent:
    """Decompress blobs one after the other in this process and throw the result away."""
    begun, before = time.perf_counter(), time.process_time()
    buffer = bytearray(_PIECE_BYTES)
    for blob in blobs:
        with _opened(blob, compression) as stream:
            while stream.readinto(buffer):
                continue
    return Spent(time.perf_counter() - begun, time.process_time() - before)


@contextmanager
def _opened(blob: Path, compression: Compression) -> Iterator[_Readable]:
    if compression is Compression.GZIP:
        with igzip.open(blob, "rb") as stream:
            yield stream
    else:
        with blob.open("rb") as file:
            yield zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


@contextmanager
def _daemon(command: tuple[str, ...], ready: Callable[[], bool], directory: Path) -> Iterator[int]:
    prctl = ctypes.CDLL(None).prctl
    with (directory / f"{command[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 - one system call
        )
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: see {log.name}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _run(command: tuple[str, ...]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cpu_s(pid: int) -> float:
    """User and system time of a process and its reaped children (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S
