"""
Mount something over FUSE and answer the kernel's requests on /dev/fuse, from threads of this process.

What the answers are is decided by the operations of what is served. Two threads, so that one slow read
never blocks the mount. The process must not touch its own mount while it holds the interpreter's
lock: it would wait for itself. System calls through ``os`` let the lock go; mapping or executing
files from the mount does not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.fuse.protocol import (
    INIT_BODY,
    INIT_REPLY,
    MAJOR,
    MAX_READ_BYTES,
    MINOR,
    PAGE_BYTES,
    REPLY,
    REQUEST,
    Feature,
    FuseError,
    Opcode,
)
from enclave_cc.enclave.rootfs.mounting.system_calls import (
    MountFlag,
    abort_fuse,
    become_io_flusher,
    mount,
    unmount,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# FUSE_MIN_READ_BUFFER is 8 KiB; no request but a write that we answer comes near.
_REQUEST_BYTES: Final = 1 << 16
_JOIN_S: Final = 2.0
_BACKGROUND: Final = 64
_CONGESTED: Final = 48
_CLONE: Final = 0x8004E500
_ALWAYS_WANTED: Final = Feature.ASYNC_READ | Feature.BIG_WRITES | Feature.NO_OPEN_SUPPORT | Feature.MAX_PAGES
_UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.INTERRUPT, Opcode.BATCH_FORGET})
# ENOENT: the request was taken back while it was handed over.
_RETRY: Final = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})


class Reader(Protocol):
    """
    Reads for one thread.

    ``opened_in_part`` is the chunk that the last read had to open for a part of it only, or None.
    """

    opened_in_part: int | None

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fill ``out``; return how many bytes there were; raise ``DeviceRefusedError``."""


class Device(Protocol):
    """Where the bytes come from."""

    size: int

    def reader(self) -> Reader:
        """Return a reader for one thread."""


@dataclass(frozen=True, slots=True)
class FuseKind:
    """
    How a kind of thing is mounted; ``options`` begin with a comma if there are any.

    ``max_write_bytes`` bounds the data of one write, where ``writable``.
    """

    name: str
    root_type: int
    features: Feature
    options: str
    flags: MountFlag
    writable: bool = False
    max_write_bytes: int = PAGE_BYTES
    threads: int = 2

    @property
    def request_bytes(self) -> int:
        """How much room the kernel wants for its largest request."""
        return max(_REQUEST_BYTES, self.max_write_bytes + PAGE_BYTES)


class Operations(Protocol):
    """The answers, for one thread."""

    def answer(self, opcode: int, node: int, body: memoryview, out: memoryview) -> int:
        """
        Write the answer's body to ``out``; return its size.

        Raise ``FuseError``, ``ENOSYS`` for a request that need not be made again, or
        ``DeviceRefusedError``.
        """


class FuseMount:
    """Something mounted and served by threads of this process until ``close()``."""

    def __init__(self, kind: FuseKind, operations: Callable[[], Operations], mountpoint: Path) -> None:
        """Mount onto an existing file or directory; raise OSError, or what ``operations`` raises."""
        self._mountpoint = mountpoint
        self._serving = FuseServing(kind, operations, os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        try:
            mount_fuse(kind, self._serving.fd, mountpoint)
        except OSError:
            self._serving.close()
            raise
        try:
            self._serving.start()
            # The number under which the kernel lists this connection.
            self._connection = os.minor(mountpoint.stat().st_dev)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Unmount and stop serving, even if the mount is still in use."""
        # Another mount namespace may hold a copy, so even a clean unmount need not be the end.
        if not unmount(self._mountpoint) or not self._serving.join():
            abort_fuse(self._connection, self._mountpoint.with_name(f"{self._mountpoint.name}.control"))
        if self._serving.join():
            self._serving.close()


def mount_fuse(kind: FuseKind, fd: int, mountpoint: Path) -> None:
    """Mount onto an existing file or directory, for whoever serves ``fd``; raise OSError."""
    options = f"fd={fd},rootmode={kind.root_type:o},user_id=0,group_id=0"
    options += f",max_read={MAX_READ_BYTES}{kind.options}"
    flags = MountFlag.NO_SUID | MountFlag.NO_DEVICES | kind.flags
    if not kind.writable:
        flags |= MountFlag.READ_ONLY
    mount(kind.name, mountpoint, f"fuse.{kind.name}", flags, options)


class FuseServing:
    """The threads that answer what the kernel asks on ``fd``, which belongs to this object."""

    def __init__(self, kind: FuseKind, operations: Callable[[], Operations], fd: int) -> None:
        """Prepare the answers; raise what ``operations`` raises."""
        self._kind = kind
        self.fd = fd
        self._fds = [fd]
        self._threads: list[threading.Thread] = []
        try:
            self._sessions = [operations() for _ in range(kind.threads)]
        except BaseException:
            # The descriptor is ours from the beginning, whatever fails.
            os.close(fd)
            raise

    def start(self) -> None:
        """Answer INIT first: only then can the kernel give each thread a channel of its own."""
        channels = [_Channel(self.fd, self._kind, self._sessions[0])]
        channels[0].serve_one()
        for session in self._sessions[1:]:
            clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            self._fds.append(clone)
            fcntl.ioctl(clone, _CLONE, struct.pack("<I", self.fd))
            channels.append(_Channel(clone, self._kind, session))
        for number, channel in enumerate(channels):
            name = f"{self._kind.name}-{number}"
            thread = threading.Thread(target=channel.serve, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> bool:
        """Wait a moment for the threads to end, which they do after the mount; tell whether they have."""
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Hang up; what is still mounted fails from now on."""
        while self._fds:
            os.close(self._fds.pop())


class _Channel:
    """One thread's side of the protocol, with its buffers."""

    def __init__(self, fd: int, kind: FuseKind, operations: Operations) -> None:
        self._fd = fd
        self._kind = kind
        self._operations = operations
        self._request = memoryview(bytearray(kind.request_bytes))
        self._reply = memoryview(bytearray(REPLY.size + MAX_READ_BYTES))

    def serve(self) -> None:
        """Answer requests until there are no more."""
        # Whatever is served: all threads share the interpreter's lock, and one of them may serve a disk.
        with suppress(OSError):
            become_io_flusher()
        while self.serve_one():
            pass

    def serve_one(self) -> bool:
        """Answer one request; return False when there will be no more."""
        try:
            received = os.readv(self._fd, [self._request])
        except OSError as error:
            return error.errno in _RETRY
        _length, opcode, unique, node = REQUEST.unpack_from(self._request)
        if opcode not in _UNANSWERED:
            body = self._request[REQUEST.size : received]
            self._send(unique, *self._answer(opcode, node, body))
        return True

    def _answer(self, opcode: int, node: int, body: memoryview) -> tuple[int, int]:
        """Write an answer's body behind the reply header; return its size and an error number."""
        out = self._reply[REPLY.size :]
        try:
            if opcode == Opcode.INIT:
                return self._init(body, out), 0
            return self._operations.answer(opcode, node, body, out), 0
        except FuseError as error:
            return 0, error.number
        except DeviceRefusedError:
            return 0, errno.EIO
        except Exception:  # noqa: BLE001 - outermost boundary: a dead thread would hang every reader
            return 0, errno.EIO

    def _init(self, body: memoryview, out: memoryview) -> int:
        _major, minor, _readahead, offered = INIT_BODY.unpack_from(body)
        features = offered & (self._kind.features | _ALWAYS_WANTED)
        # Times are exact to the nanosecond.
        limits = (_BACKGROUND, _CONGESTED, self._kind.max_write_bytes, 1, MAX_READ_BYTES // PAGE_BYTES, 0)
        INIT_REPLY.pack_into(out, 0, MAJOR, min(minor, MINOR), MAX_READ_BYTES, features, *limits)
        return INIT_REPLY.size

    def _send(self, unique: int, size: int, error: int) -> None:
        REPLY.pack_into(self._reply, 0, REPLY.size + size, -error, unique)
        try:
            os.write(self._fd, self._reply[: REPLY.size + size])
        except OSError:
            # The reader was killed meanwhile, or it was unmounted; the next read tells which.
            return
