"""
Serve one read-only file to the kernel, speaking the FUSE protocol on /dev/fuse (linux/fuse.h).

Mounted onto a plain file, so there is no directory and no name: the kernel asks for attributes and
for reads, and everything else does not exist. Two threads, so that one slow read never blocks the
mount. The server must not touch its own mount while it holds the interpreter's lock: it would wait
for itself. System calls through ``os`` let the lock go; mapping or executing files from it does not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.enclave.rootfs.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.mounts import MountFlag, abort_fuse, mount, unmount

if TYPE_CHECKING:
    from pathlib import Path

MAX_READ_BYTES: Final = 1 << 20
_PAGE_BYTES: Final = 4096
# FUSE_MIN_READ_BUFFER is 8 KiB; no request that we answer comes near.
_REQUEST_BYTES: Final = 1 << 16
_MAX_WRITE_BYTES: Final = 4096
_THREADS: Final = 2
_JOIN_S: Final = 2.0

_CLONE: Final = 0x8004E500
_MAJOR: Final = 7
_MINOR: Final = 38
_ASYNC_READ: Final = 1 << 0
_BIG_WRITES: Final = 1 << 5
_NO_OPEN_SUPPORT: Final = 1 << 17
_MAX_PAGES: Final = 1 << 22
_WANTED_FEATURES: Final = _ASYNC_READ | _BIG_WRITES | _NO_OPEN_SUPPORT | _MAX_PAGES
_BACKGROUND: Final = 64
_CONGESTED: Final = 48
# The file never changes.
_FOREVER_S: Final = 1 << 30

_REQUEST: Final = struct.Struct("<IIQ24x")  # length, opcode, unique
_REPLY: Final = struct.Struct("<IiQ")  # length, error, unique
_READ_BODY: Final = struct.Struct("<8xQI20x")  # offset, size
_INIT_BODY: Final = struct.Struct("<IIII")  # major, minor, readahead, features
_INIT_REPLY: Final = struct.Struct("<IIIIHHIIH34x")
_ATTR_REPLY: Final = struct.Struct("<QI4x QQQ24x12xIIIIIII")

# ENOENT: the request was taken back while it was handed over.
_RETRY: Final = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})


class Opcode(IntEnum):
    """The requests that get an answer other than "no such function", or none at all."""

    FORGET = 2
    GETATTR = 3
    READ = 15
    INIT = 26
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.INTERRUPT, Opcode.BATCH_FORGET})


class Reader(Protocol):
    """Reads for one thread."""

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fill ``out``; return how many bytes there were; raise ``DeviceRefusedError``."""


class Device(Protocol):
    """What is served."""

    size: int

    def reader(self) -> Reader:
        """Return a reader for one thread."""


class FuseFile:
    """A device, mounted as a file and served by threads of this process until ``close()``."""

    def __init__(self, device: Device, mountpoint: Path) -> None:
        """Mount onto an existing regular file; raise OSError."""
        self._device = device
        self._mountpoint = mountpoint
        self._fds = [os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)]
        self._threads: list[threading.Thread] = []
        options = (
            f"fd={self._fds[0]},rootmode={stat.S_IFREG:o},user_id=0,group_id=0,max_read={MAX_READ_BYTES}"
        )
        flags = MountFlag.READ_ONLY | MountFlag.NO_SUID | MountFlag.NO_DEVICES | MountFlag.NO_EXEC
        try:
            mount("sealed-image", mountpoint, "fuse.sealed-image", flags, options)
        except OSError:
            os.close(self._fds[0])
            raise
        try:
            self._start()
            # The number under which the kernel lists this connection.
            self._connection = os.minor(mountpoint.stat().st_dev)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Unmount and stop serving, even if the mount is still in use."""
        # Another mount namespace may hold a copy, so even a clean unmount need not be the end.
        if not unmount(self._mountpoint) or not self._join():
            abort_fuse(self._connection, self._mountpoint.with_name(f"{self._mountpoint.name}.control"))
        if self._join():
            while self._fds:
                os.close(self._fds.pop())

    def _start(self) -> None:
        """Answer INIT first: only then can the kernel give each thread a channel of its own."""
        _Channel(self._fds[0], self._device).serve_one()
        for _extra in range(1, _THREADS):
            clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            self._fds.append(clone)
            fcntl.ioctl(clone, _CLONE, struct.pack("<I", self._fds[0]))
        for number, fd in enumerate(self._fds):
            channel = _Channel(fd, self._device)
            thread = threading.Thread(target=channel.serve, name=f"sealed-image-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _join(self) -> bool:
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class _Channel:
    """One thread's side of the protocol, with its buffers."""

    def __init__(self, fd: int, device: Device) -> None:
        self._fd = fd
        self._device = device
        self._reader = device.reader()
        self._request = memoryview(bytearray(_REQUEST_BYTES))
        self._reply = memoryview(bytearray(_REPLY.size + MAX_READ_BYTES))

    def serve(self) -> None:
        """Answer requests until the file is unmounted."""
        while self.serve_one():
            pass

    def serve_one(self) -> bool:
        """Answer one request; return False when there will be no more."""
        try:
            os.readv(self._fd, [self._request])
        except OSError as error:
            return error.errno in _RETRY
        _length, opcode, unique = _REQUEST.unpack_from(self._request)
        if opcode not in _UNANSWERED:
            self._send(unique, *self._answer(opcode))
        return True

    def _answer(self, opcode: int) -> tuple[int, int]:
        """Write an answer's body behind the reply header; return its size and an error number."""
        try:
            match opcode:
                case Opcode.READ:
                    return self._read(), 0
                case Opcode.GETATTR:
                    return self._attributes(), 0
                case Opcode.INIT:
                    return self._init(), 0
                case _:
                    # For OPEN this means "no need to ask again".
                    return 0, errno.ENOSYS
        except DeviceRefusedError:
            return 0, errno.EIO
        except Exception:  # noqa: BLE001 - outermost boundary: a dead thread would hang every reader
            return 0, errno.EIO

    def _send(self, unique: int, size: int, error: int) -> None:
        _REPLY.pack_into(self._reply, 0, _REPLY.size + size, -error, unique)
        try:
            os.write(self._fd, self._reply[: _REPLY.size + size])
        except OSError:
            # The reader was killed meanwhile, or the file unmounted; the next read tells which.
            return

    def _read(self) -> int:
        offset, size = _READ_BODY.unpack_from(self._request, _REQUEST.size)
        start = _REPLY.size
        return self._reader.read_into(offset, self._reply[start : start + min(size, MAX_READ_BYTES)])

    def _attributes(self) -> int:
        size = self._device.size
        owner = (0, 0, 0)  # user, group, device number
        attributes = (1, size, size >> 9, stat.S_IFREG | 0o400, 1, *owner, _PAGE_BYTES, 0)
        _ATTR_REPLY.pack_into(self._reply, _REPLY.size, _FOREVER_S, 0, *attributes)
        return _ATTR_REPLY.size

    def _init(self) -> int:
        _major, minor, _readahead, features = _INIT_BODY.unpack_from(self._request, _REQUEST.size)
        limits = (_BACKGROUND, _CONGESTED, _MAX_WRITE_BYTES, 1, MAX_READ_BYTES // _PAGE_BYTES)
        answer = (_MAJOR, min(minor, _MINOR), MAX_READ_BYTES, features & _WANTED_FEATURES, *limits)
        _INIT_REPLY.pack_into(self._reply, _REPLY.size, *answer)
        return _INIT_REPLY.size
