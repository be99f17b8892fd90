"""
How the kernel reads the tree: EROFS from the served file, or from a loop device on top of it.

Which of them works is tried out, not derived from version numbers: some kernels lack one, and some
file-backed EROFS implementations return zeros for what could not be read. Such a kernel would turn
a refused chunk into wrong data, so each candidate must first pass the self-test.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.enclave.rootfs.mounts import MountFlag, attach_loop, mount
from enclave_cc.enclave.rootfs.selftest import SelfTestError, self_test

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Backend(StrEnum):
    """The ways to mount the tree, the preferred one first."""

    EROFS_FILE = "erofs-file"  # Linux 6.12
    EROFS_LOOP = "erofs-loop"  # Linux 6.4

    def mount(self, image: Path, target: Path) -> None:
        """Mount the served file; raise OSError."""
        if self is Backend.EROFS_FILE:
            mount(os.fspath(image), target, "erofs", MountFlag.READ_ONLY)
            return
        device, fd = attach_loop(image)
        try:
            mount(device, target, "erofs", MountFlag.READ_ONLY)
        finally:
            os.close(fd)


PREFERENCE: Final = (Backend.EROFS_FILE, Backend.EROFS_LOOP)


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
