"""
Keep what the workload writes on the host's disk, encrypted: file, store, FUSE, loop device, ext4.

When memory is short, the kernel makes room by writing pages of that ext4 back, through us. So this
process must not wait for room itself: its memory stays where it is, its threads say what they are, and
neither the loop device nor the file below keeps pages that wait.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.device.host_file import HostFile
from enclave_cc.enclave.rootfs.device.scratch_store import BLOCK_BYTES, ScratchStore
from enclave_cc.enclave.rootfs.fuse.block_file import serve_blocks
from enclave_cc.enclave.rootfs.mounting.system_calls import (
    MountFlag,
    attach_loop,
    lock_memory,
    mount,
    unmount,
)
from enclave_cc.enclave.rootfs.mounting.writable.ext4 import MOUNT_OPTIONS, make_ext4, scratch_unavailable

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.device.scratch_store import Poisonable

# Less than that is not worth a file system.
_MIN_BYTES: Final = 1 << 20


def mount_scratch(
    target: Path, work: Path, size_bytes: int, rootfs: Poisonable, cleanup: ExitStack
) -> ScratchStore:
    """
    Mount an empty encrypted file system onto a directory; return its store.

    It is as large as asked for, or as the free room on the disk of ``work``, a private directory. Raise
    ``UnavailableError`` (``scratch-unavailable``), or OSError if the root file system was poisoned.
    """
    try:
        lock_memory()
        blocks = _size(work, size_bytes) // BLOCK_BYTES
        file = HostFile(work, blocks * BLOCK_BYTES)
        cleanup.callback(file.close)
        store = ScratchStore(file, blocks, rootfs)
        cleanup.callback(store.close)
        image = work / "scratch-image"
        image.touch(mode=0o600)
        cleanup.callback(image.unlink)
        cleanup.callback(serve_blocks(store, image).close)
        _mount(image, target)
        cleanup.callback(unmount, target)
    except OSError as error:
        _raise_if_poisoned(rootfs, error)
        raise scratch_unavailable(str(error)) from error
    return store


def _size(work: Path, wanted_bytes: int) -> int:
    size = min(wanted_bytes, shutil.disk_usage(work).free)
    if size < _MIN_BYTES:
        raise scratch_unavailable(f"{size} bytes are no room for a file system")
    return size


def _mount(image: Path, target: Path) -> None:
    device, fd = attach_loop(image, writable=True)
    try:
        make_ext4(device)
        mount(device, target, "ext4", MountFlag.NONE, MOUNT_OPTIONS)
    finally:
        os.close(fd)


def _raise_if_poisoned(rootfs: Poisonable, error: OSError) -> None:
    try:
        rootfs.check()
    except DeviceRefusedError:
        raise error from None
