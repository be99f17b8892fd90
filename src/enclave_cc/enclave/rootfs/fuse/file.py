"""
Serve a device as one read-only file.

Mounted onto a plain file, so there is no directory and no name: the kernel asks for attributes and
for reads, and everything else does not exist. It is asked for more than it wants: to read ahead far
enough that a request carries many chunks, and to take the rest of a chunk that it wanted a part of.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.fuse.prefetch import ChunkPrefetcher
from enclave_cc.enclave.rootfs.fuse.protocol import (
    ATTR_HEADER,
    FOREVER_S,
    MAX_READ_BYTES,
    OPEN_REPLY,
    READ_BODY,
    ROOT_NODE,
    Attributes,
    Feature,
    FuseError,
    Opcode,
    OpenFlag,
)
from enclave_cc.enclave.rootfs.fuse.server import FuseKind, FuseMount
from enclave_cc.enclave.rootfs.mounting.read_ahead import read_ahead_in_mount
from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.enclave.rootfs.fuse.server import Device


# Almost all requests; comparing plain numbers is quicker.
_READ: Final = int(Opcode.READ)
_KIND: Final = FuseKind("sealed-image", stat.S_IFREG, Feature(0), options="", flags=MountFlag.NO_EXEC)


# Closing asks nothing: we have the file open ourselves, and a killed server must not wait for its own answer.
_OPENED: Final = OPEN_REPLY.pack(0, OpenFlag.KEEP_CACHE | OpenFlag.NO_FLUSH)


class FileOperations:
    """Answers for one thread."""

    def __init__(self, device: Device, prefetcher: ChunkPrefetcher) -> None:
        self._reader = device.reader()
        self._prefetcher = prefetcher
        attributes = Attributes(ROOT_NODE, stat.S_IFREG | 0o400, device.size)
        self._attributes = ATTR_HEADER.pack(FOREVER_S, 0) + attributes.pack()

    def answer(self, opcode: int, _node: int, body: memoryview, out: memoryview) -> int:
        """Read, or tell the attributes."""
        if opcode == _READ:
            return self._read(body, out)
        match opcode:
            case Opcode.GETATTR:
                answer = self._attributes
            case Opcode.OPEN:
                answer = _OPENED
            case _:
                raise FuseError(errno.ENOSYS)
        out[: len(answer)] = answer
        return len(answer)

    def _read(self, body: memoryview, out: memoryview) -> int:
        offset, size = READ_BODY.unpack_from(body)
        reader = self._reader
        count = reader.read_into(offset, out[: min(size, MAX_READ_BYTES)])
        if reader.opened_in_part is not None:
            self._prefetcher.want(reader.opened_in_part)
        return count


class ServedFile:
    """A device mounted as a file, until ``close()``."""

    def __init__(self, device: Device, mountpoint: Path) -> None:
        """Mount onto an existing regular file; raise OSError."""
        self._prefetcher = ChunkPrefetcher()
        self._mount = FuseMount(_KIND, lambda: FileOperations(device, self._prefetcher), mountpoint)
        try:
            # Before the file is opened by anybody: each opening takes over what holds then.
            read_ahead_in_mount(mountpoint, MAX_READ_BYTES)
            self._prefetcher.start(mountpoint)
        except OSError:
            self._mount.close()
            raise

    def close(self) -> None:
        """Unmount and stop serving, even if the mount is still in use."""
        self._prefetcher.close()
        self._mount.close()


def serve_file(device: Device, mountpoint: Path) -> ServedFile:
    """Mount a device onto an existing regular file; raise OSError."""
    return ServedFile(device, mountpoint)
