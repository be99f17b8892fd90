"""Sealed images made of tar streams, and a private mount namespace to open them in."""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import signal
import tarfile
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.mounting.rootfs import MountedRootfs
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter

if TYPE_CHECKING:
    from pathlib import Path

CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = (1 << 14) | (1 << 18)
CHILD_S = 60
BINDING = Binding("pod", "container", "sha256:image")


@dataclass
class SealedFixture:
    directory: Path
    fdk: Secret
    manifest_sha256: bytes

    def open(self, base: Path, **changes) -> MountedRootfs:
        """Mount it below ``base``; ``changes`` replace arguments."""
        arguments = {
            "fdk": self.fdk,
            "manifest_sha256": self.manifest_sha256,
            "binding": BINDING,
            "mountpoint": base / "root",
            "work": base / "work",
            "on_poison": lambda finding: None,
        }
        base.mkdir()
        (base / "root").mkdir()
        (base / "work").mkdir()
        return MountedRootfs.open(self.directory, **(arguments | changes))

    @property
    def blobs(self) -> list[Path]:
        """The blobs, smallest first: the metadata of a test's image is one chunk."""
        return sorted(self.directory.glob("*.blob"), key=lambda path: path.stat().st_size)


@pytest.fixture
def seal(tmp_path):
    """Seal layers, given as tar streams, into a new directory."""

    def make(*layers: bytes, name: str = "image") -> SealedFixture:
        fdk = Secret.random(32)
        writer = SealedImageWriter(tmp_path / name, fdk=fdk, binding=BINDING)
        for layer in layers:
            writer.add_layer([layer])
        image = writer.finish()
        manifest = (tmp_path / name / "manifest.sealed").read_bytes()
        assert hashlib.sha256(manifest).digest() == image.manifest_sha256
        return SealedFixture(tmp_path / name, fdk, image.manifest_sha256)

    return make


@pytest.fixture
def archive():
    """Write a tar stream of files, given as names and contents."""

    def make(**files: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    return make


def enter_private_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no private mount namespace")


def run_child(function) -> None:
    """The child's whole life; what it has to say goes to the pipe, nothing else leaves it."""
    enter_private_mounts()
    signal.alarm(CHILD_S)
    function()


@pytest.fixture
def in_private_mounts():
    """Run a function in a child with a mount namespace of its own; its failure fails the test."""

    def run(function) -> None:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_child(function)
                status = 0
            except BaseException:  # noqa: BLE001 - the child must never return into the test runner
                os.write(write_end, traceback.format_exc()[-60_000:].encode())
            finally:
                os._exit(status)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            report = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        if status:
            pytest.fail(report or f"the child ended with status {status}")

    return run
