"""
How the kernel gets the tree: EROFS from the served file, EROFS from a loop device on top, or from us.

Which of them works is tried out, not derived from version numbers: some kernels lack one, and some
file-backed EROFS implementations return zeros for what could not be read. Such a kernel would turn
a refused chunk into wrong data, so each candidate must first pass the self-test.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.enclave.rootfs.fuse.file import serve_file
from enclave_cc.enclave.rootfs.fuse.protocol import MAX_READ_BYTES
from enclave_cc.enclave.rootfs.fuse.tree import serve_tree
from enclave_cc.enclave.rootfs.mounting.read_ahead import read_ahead_on_disk
from enclave_cc.enclave.rootfs.mounting.selftest import SelfTestError, self_test
from enclave_cc.enclave.rootfs.mounting.system_calls import (
    MountFlag,
    attach_loop,
    mount,
    unmount,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.fuse.server import Device


class Backend(StrEnum):
    """The ways to mount the tree, the preferred one first."""

    EROFS_FILE = "erofs-file"  # Linux 6.12
    EROFS_LOOP = "erofs-loop"  # Linux 6.4
    FUSE_TREE = "fuse-tree"  # needs no EROFS

    def mount(self, device: Device, target: Path, image: Path, cleanup: ExitStack) -> None:
        """
        Mount the tree of a device onto the directory ``target``; raise OSError.

        At ``image`` nothing exists; a back end may serve the device there. What must be taken down
        again is added to ``cleanup``.
        """
        if self is Backend.FUSE_TREE:
            cleanup.callback(serve_tree(device, target).close)
            return
        image.touch(mode=0o600)
        cleanup.callback(image.unlink)
        cleanup.callback(serve_file(device, image).close)
        if self is Backend.EROFS_FILE:
            mount(os.fspath(image), target, "erofs", MountFlag.READ_ONLY)
        else:
            mount_loop(image, target)
        cleanup.callback(unmount, target)


PREFERENCE: Final = (Backend.EROFS_FILE, Backend.EROFS_LOOP, Backend.FUSE_TREE)


class BackendSelector:
    """Finds a back end that passes the self-test, and remembers it for the process that holds this object."""

    def __init__(self, candidates: Iterable[Backend] = PREFERENCE) -> None:
        self._candidates = tuple(candidates)
        self._found: Backend | None = None

    def choose(self, work: Path) -> Backend:
        """Return the best back end; raise ``RefusedError`` if none works. ``work`` is a private directory."""
        if self._found is None:
            self._found = self._try_all(work)
        return self._found

    def _try_all(self, work: Path) -> Backend:
        complaints = []
        for backend in self._candidates:
            try:
                self_test(backend.mount, work)
            except (OSError, SelfTestError) as error:
                complaints.append(f"{backend}: {error}")
            else:
                return backend
        raise RefusedError(
            "erofs-unavailable",
            "this kernel cannot mount a sealed image safely",
            stage=Stage.MOUNT,
            detail="; ".join(complaints),
        )


def mount_loop(image: Path, target: Path) -> None:
    """Mount the EROFS image in a file by way of a loop device, which goes with the mount; raise OSError."""
    device, fd = attach_loop(image)
    try:
        read_ahead_on_disk(fd, MAX_READ_BYTES)
        mount(device, target, "erofs", MountFlag.READ_ONLY)
    finally:
        os.close(fd)
