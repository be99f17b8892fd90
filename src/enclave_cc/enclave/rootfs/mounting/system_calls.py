"""
The system calls around mounting that Python does not offer: mount, umount2, loop devices, FUSE abort.

They go through ctypes, which lets other threads run meanwhile: mounting reads from a file that this
very process serves. Nothing here decides what is mounted where.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from contextlib import suppress
from enum import IntFlag
from pathlib import Path
from typing import Final

_UMOUNT_NOFOLLOW: Final = 8
_MNT_DETACH: Final = 2
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_READ_ONLY: Final = 1
_LOOP_AUTOCLEAR: Final = 4
# struct loop_config: file, block size, then struct loop_info64 with the flags at its byte 52.
_LOOP_CONFIG: Final = struct.Struct("<II 52xI176x 64x")
_LOOP_SET_DIRECT_IO: Final = 0x4C08
_LOOP_BLOCK: Final = 512
_WRITABLE_LOOP_BLOCK: Final = 4096
_FALLOC_KEEP_SIZE: Final = 1
_FALLOC_PUNCH_HOLE: Final = 2
_PR_SET_IO_FLUSHER: Final = 57
_NEW_MOUNTS: Final = 0x20000
_PRIVATE: Final = (1 << 14) | (1 << 18)
_SLAVE: Final = (1 << 14) | (1 << 19)
_LOCK_CURRENT: Final = 1
_LOCK_FUTURE: Final = 2
# Only what is in memory: an address space has much in it that is never touched.
_LOCK_ON_FAULT: Final = 4
# Others attach loop devices too, and may take the one that was free a moment ago.
_LOOP_ATTEMPTS: Final = 16


class MountFlag(IntFlag):
    """Flags of mount(2), from linux/mount.h."""

    NONE = 0
    READ_ONLY = 1
    NO_SUID = 2
    NO_DEVICES = 4
    NO_EXEC = 8


def mount(source: str, target: Path, kind: str, flags: MountFlag, options: str = "") -> None:
    """Mount one file system, with the arguments of the system call; raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode())
    data = os.fsencode(options) if options else None
    if libc.mount(*arguments, ctypes.c_ulong(flags), data) != 0:
        raise _os_error(target)


def unmount(target: Path) -> bool:
    """
    Unmount; return False if the mount is still in use, and was only taken out of sight.

    What is not mounted (any more) counts as unmounted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    name = os.fsencode(target)
    if libc.umount2(name, _UMOUNT_NOFOLLOW) == 0:
        return True
    error = _os_error(target)
    if error.errno in (errno.EINVAL, errno.ENOENT):
        return True
    if libc.umount2(name, _UMOUNT_NOFOLLOW | _MNT_DETACH) != 0:
        raise _os_error(target)
    return False


def attach_loop(path: Path, *, writable: bool = False) -> tuple[str, int]:
    """
    Attach a file to a free loop device; return the device's path and a descriptor of it.

    The device frees itself when the descriptor is closed and nothing has it mounted. A writable one
    hands every write on at once: it keeps no pages of its own, which could not be written back when
    memory is short.
    """
    access = os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY)
    backing = os.open(path, access)
    try:
        config = _loop_config(backing, writable=writable)
        for _attempt in range(_LOOP_ATTEMPTS):
            device = f"/dev/loop{_free_loop()}"
            fd = os.open(device, access)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
                if writable:
                    fcntl.ioctl(fd, _LOOP_SET_DIRECT_IO, 1)
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, fd
    finally:
        os.close(backing)
    raise OSError(errno.EBUSY, "no loop device stays free")


def punch_hole(fd: int, offset: int, size: int) -> None:
    """Give the room of a part of a file back to its file system; raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_io_flusher() -> None:
    """
    Let no allocation of this thread wait for pages to be written back; threads that it starts inherit it.

    They might be written back by this very thread. Raise OSError where the caller may not (CAP_SYS_RESOURCE).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_IO_FLUSHER, *map(ctypes.c_ulong, (1, 0, 0, 0))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def leave_mount_namespace() -> None:
    """
    Let this process hold no mount that is made in its namespace from now on; raise OSError.

    It must have one thread, because others would stay behind. Where that does not let new mounts follow,
    what the host unmounts is unmounted here as well, so that nothing of it is kept busy.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise OSError(errno.EBUSY, "a process of several threads cannot leave its mount namespace")
    mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    # Spaces in names are written otherwise: this is the field that proc(5) describes.
    kind = _PRIVATE if any(b" shared:" in mount for mount in mounts) else _SLAVE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS) != 0 or libc.mount(b"none", b"/", None, ctypes.c_ulong(kind), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lock_memory() -> None:
    """Keep what this process has in memory there, and what it gets; raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_LOCK_CURRENT | _LOCK_FUTURE | _LOCK_ON_FAULT) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def abort_fuse(connection: int, scratch: Path) -> None:
    """
    End a FUSE connection whose mount is still in use; every access to it fails from then on.

    ``scratch`` is a path where a directory may be made.
    """
    scratch.mkdir()
    try:
        mount("fusectl", scratch, "fusectl", MountFlag.NONE)
        try:
            # It may have ended by itself meanwhile.
            with suppress(FileNotFoundError):
                (scratch / str(connection) / "abort").write_bytes(b"1")
        finally:
            unmount(scratch)
    finally:
        scratch.rmdir()


def _loop_config(backing: int, *, writable: bool) -> bytes:
    if writable:
        return _LOOP_CONFIG.pack(backing, _WRITABLE_LOOP_BLOCK, _LOOP_AUTOCLEAR)
    return _LOOP_CONFIG.pack(backing, _LOOP_BLOCK, _LOOP_READ_ONLY | _LOOP_AUTOCLEAR)


def _free_loop() -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)


def _os_error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fspath(target))
