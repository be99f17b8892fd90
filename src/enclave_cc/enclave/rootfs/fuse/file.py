"""
Serve a device as one read-only file.

Mounted onto a plain file, so there is no directory and no name: the kernel asks for attributes and
for reads, and everything else does not exist.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.fuse.protocol import (
    ATTR_HEADER,
    FOREVER_S,
    MAX_READ_BYTES,
    READ_BODY,
    ROOT_NODE,
    Attributes,
    Feature,
    FuseError,
    Opcode,
)
from enclave_cc.enclave.rootfs.fuse.server import FuseKind, FuseMount
from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.enclave.rootfs.fuse.server import Device


_KIND: Final = FuseKind("sealed-image", stat.S_IFREG, Feature(0), options="", flags=MountFlag.NO_EXEC)


class FileOperations:
    """Answers for one thread."""

    def __init__(self, device: Device) -> None:
        self._reader = device.reader()
        attributes = Attributes(ROOT_NODE, stat.S_IFREG | 0o400, device.size)
        self._attributes = ATTR_HEADER.pack(FOREVER_S, 0) + attributes.pack()

    def answer(self, opcode: int, _node: int, body: memoryview, out: memoryview) -> int:
        """Read, or tell the attributes."""
        match opcode:
            case Opcode.READ:
                offset, size = READ_BODY.unpack_from(body)
                return self._reader.read_into(offset, out[: min(size, MAX_READ_BYTES)])
            case Opcode.GETATTR:
                out[: len(self._attributes)] = self._attributes
                return len(self._attributes)
            case _:
                # For OPEN this means "no need to ask again".
                raise FuseError(errno.ENOSYS)


def serve_file(device: Device, mountpoint: Path) -> FuseMount:
    """Mount a device onto an existing regular file; raise OSError."""
    return FuseMount(_KIND, lambda: FileOperations(device), mountpoint)
