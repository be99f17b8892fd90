"""
Decrypt a whole image into memory before it is mounted, for small images that are read all the time.

Every chunk is verified first, so that there is nothing left to refuse afterwards: keys and blobs are given
up, and the kernel reads from memory without asking us. Where it has no EROFS we serve the tree from
there. The memory is never swapped: what the host's disk may hold of an image is sealed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.device.plain import PlainDevice
from enclave_cc.enclave.rootfs.fuse.tree import serve_tree
from enclave_cc.enclave.rootfs.mounting.backend import mount_loop
from enclave_cc.enclave.rootfs.mounting.overlay import make_directory
from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag, mount, unmount

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.device.device import VirtualDevice

_THREADS: Final = 2
# What one thread opens before it looks whether another one met a bad chunk.
_STEP_BYTES: Final = 1 << 20
_FLAGS: Final = MountFlag.NO_SUID | MountFlag.NO_DEVICES | MountFlag.NO_EXEC


class DecryptedBackend(StrEnum):
    """The ways to mount a decrypted image, the preferred one first."""

    EROFS_MEMORY = "erofs-memory"
    FUSE_TREE_MEMORY = "fuse-tree-memory"


def mount_decrypted(
    device: VirtualDevice,
    target: Path,
    work: Path,
    limit_bytes: int,
    cleanup: ExitStack,
    *,
    with_erofs: bool = True,
) -> DecryptedBackend:
    """
    Decrypt a device into memory, close it, and mount its tree onto the directory ``target``.

    Raise ``RefusedError`` if it is larger than ``limit_bytes``; OSError if a chunk is refused, or the kernel
    gives no memory or no mount.
    """
    _check_size(device.size, limit_bytes)
    memory = work / "decrypted"
    make_directory(memory, cleanup)
    has_noswap = _mount_memory(memory, device.size, cleanup)
    image = memory / "image"
    plaintext = _decrypt(device, image, locked=not has_noswap)
    cleanup.callback(_release, plaintext)
    device.close()
    is_mounted = with_erofs and _mount_erofs(image, target, cleanup)
    # The loop device, or we, have it open; the name would only lead others to it.
    image.unlink()
    if is_mounted:
        if has_noswap:
            # What is locked stays so only as long as it is mapped.
            _release(plaintext)
        return DecryptedBackend.EROFS_MEMORY
    view = memoryview(plaintext)
    cleanup.callback(view.release)
    cleanup.callback(serve_tree(PlainDevice(view, device.check), target).close)
    return DecryptedBackend.FUSE_TREE_MEMORY


def _mount_erofs(image: Path, target: Path, cleanup: ExitStack) -> bool:
    """Return False where the kernel has no loop device left, or no EROFS."""
    try:
        mount_loop(image, target)
    except OSError:
        return False
    cleanup.callback(unmount, target)
    return True


def _release(plaintext: mmap.mmap) -> None:
    # A request that was not answered in time keeps it until the process ends.
    with suppress(BufferError):
        plaintext.close()


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise RefusedError(
            "rootfs-too-large-to-decrypt",
            "the image is too large to be decrypted to memory",
            stage=Stage.MOUNT,
            findings=(
                Finding(
                    "rootfs.decrypt-to-memory",
                    Outcome.FAILED,
                    expected=f"images of at most {limit_bytes} bytes",
                    actual=f"{size} bytes",
                ),
            ),
        )


def _mount_memory(target: Path, size: int, cleanup: ExitStack) -> bool:
    """Mount memory for one file of this size; return whether the kernel promises not to swap it."""
    options = f"mode=0700,size={size},nr_inodes=8"
    try:
        mount("decrypted-image", target, "tmpfs", _FLAGS, f"{options},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount("decrypted-image", target, "tmpfs", _FLAGS, options)
        cleanup.callback(unmount, target)
        return False
    cleanup.callback(unmount, target)
    return True


def _decrypt(device: VirtualDevice, image: Path, *, locked: bool) -> mmap.mmap:
    """Open all chunks into a new file, in memory that is locked first; raise OSError if one is refused."""
    fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # What there is no room for shows here, and not as a signal while it is written to.
        os.posix_fallocate(fd, 0, device.size)
        plaintext = mmap.mmap(fd, device.size)
    finally:
        os.close(fd)
    if locked:
        _lock(plaintext)
    steps = range(0, device.size, _STEP_BYTES)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = [steps[number::_THREADS] for number in range(_THREADS)]
        try:
            list(pool.map(partial(_open_parts, device, plaintext), parts))
        except DeviceRefusedError as error:
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    return plaintext


def _open_parts(device: VirtualDevice, plaintext: mmap.mmap, starts: range) -> None:
    reader = device.reader()
    with memoryview(plaintext) as view:
        for start in starts:
            with view[start : start + _STEP_BYTES] as part:
                reader.read_into(start, part)


def _lock(plaintext: mmap.mmap) -> None:
    """Keep the pages in memory; raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(plaintext))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(plaintext))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
