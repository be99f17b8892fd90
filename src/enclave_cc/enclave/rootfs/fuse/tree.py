"""
Serve the tree itself, for kernels that cannot mount it as EROFS: the same metadata, read by us.

Nothing is remembered between requests: a node is the number of an inode, so that forgetting has no
meaning, and every answer is read from the device anew. Therefore a poisoned device answers nothing
any more, as with the other back ends. The kernel keeps answers for good, and checks permissions.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.fuse.protocol import (
    ATTR_HEADER,
    DIRENT,
    DIRENT_ALIGNMENT,
    ENTRY_HEADER,
    FOREVER_S,
    MAX_READ_BYTES,
    READ_BODY,
    ROOT_NODE,
    STATFS,
    XATTR_BODY,
    XATTR_SIZE,
    Attributes,
    Feature,
    FuseError,
    Opcode,
)
from enclave_cc.enclave.rootfs.fuse.server import FuseKind, FuseMount
from enclave_cc.enclave.rootfs.mounting.read_ahead import read_ahead_in_mount
from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag
from enclave_cc.formats.sealed.erofs_format import BLOCK
from enclave_cc.formats.sealed.erofs_reader import MetadataError, MetadataReader
from enclave_cc.formats.sealed.erofs_scan import has_xattrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.enclave.rootfs.fuse.server import Device
    from enclave_cc.formats.sealed.erofs_reader import Entry, Inode

# A position in a directory is a block and a place in it; a block of 512 bytes has 39 entries at most.
_PLACE_BITS: Final = 6
_MAX_NAME_BYTES: Final = 255
_ABSENT: Final = ENTRY_HEADER.pack(0, 0, FOREVER_S, 0, 0, 0) + Attributes(0, 0, 0).pack()
# Entries that the kernel must not take for children.
_UNLINKED: Final = bytes(len(_ABSENT))
_DOTS: Final = (b".", b"..")

# The kernel does not make this kind of request any more.
_NEVER_AGAIN: Final = errno.ENOSYS
# Sealing refuses them, so there is no need to look.
_OVERLAY_XATTR: Final = b"trusted.overlay."
_FEATURES: Final = (
    # File handles let an overlay recognise a file that it copied up.
    Feature.EXPORT_SUPPORT
    | Feature.DO_READDIRPLUS
    | Feature.PARALLEL_DIROPS
    # Access control lists of the image restrict its users, as they do when EROFS is mounted.
    | Feature.POSIX_ACL
    | Feature.CACHE_SYMLINKS
    | Feature.NO_OPENDIR_SUPPORT
)
_KIND: Final = FuseKind(
    "sealed-tree", stat.S_IFDIR, _FEATURES, options=",default_permissions,allow_other", flags=MountFlag.NONE
)


class TreeOperations:
    """Answers for one thread."""

    def __init__(self, device: Device, *, with_xattrs: bool = True) -> None:
        """Raise ``MetadataError`` or ``DeviceRefusedError``; without attributes none are looked for."""
        self._reader = device.reader()
        self._metadata = MetadataReader(self._read_metadata)
        if self._metadata.blocks * BLOCK != device.size:
            raise MetadataError("the tree and the device have different sizes")
        self._with_xattrs = with_xattrs

    def finds_xattrs(self) -> bool:
        """Tell whether any file has extended attributes."""
        return has_xattrs(self._read_metadata, self._metadata)

    def answer(self, opcode: int, node: int, body: memoryview, out: memoryview) -> int:
        """Write the answer to a request; see ``Operations``."""
        if opcode == Opcode.READ:
            return self._read(self._inode(node), body, out)
        answer = self._describe(opcode, node, body)
        out[: len(answer)] = answer
        return len(answer)

    def _describe(self, opcode: int, node: int, body: memoryview) -> bytes:
        match opcode:
            case Opcode.LOOKUP:
                return self._lookup(self._inode(node), bytes(body).rstrip(b"\0"))
            case Opcode.GETATTR:
                return ATTR_HEADER.pack(FOREVER_S, 0) + _attributes(self._inode(node))
            case Opcode.READLINK:
                return self._metadata.target(self._inode(node))
            case Opcode.READDIR | Opcode.READDIRPLUS:
                return self._list(self._inode(node), body, plus=opcode == Opcode.READDIRPLUS)
            case Opcode.GETXATTR | Opcode.LISTXATTR:
                return self._xattr(node, body, is_list=opcode == Opcode.LISTXATTR)
            case Opcode.STATFS:
                blocks, inodes = self._metadata.blocks, self._metadata.inodes
                return STATFS.pack(blocks, 0, 0, inodes, 0, BLOCK, _MAX_NAME_BYTES, BLOCK)
            case _:
                # For OPEN and OPENDIR it also means that the kernel may keep what it has read.
                raise FuseError(_NEVER_AGAIN)

    def _inode(self, node: int) -> Inode:
        # The kernel's number of the root can be no inode's: the superblock lies there.
        return self._metadata.inode(self._metadata.root if node == ROOT_NODE else node)

    def _read_metadata(self, offset: int, size: int) -> bytes:
        out = memoryview(bytearray(size))
        return bytes(out[: self._reader.read_into(offset, out)])

    def _read(self, inode: Inode, body: memoryview, out: memoryview) -> int:
        if not stat.S_ISREG(inode.mode):
            raise FuseError(errno.EINVAL)
        offset, size = READ_BODY.unpack_from(body)
        done = 0
        for address, length in self._metadata.extents(inode, offset, min(size, MAX_READ_BYTES)):
            part = out[done : done + length]
            if not address:
                part[:] = bytes(length)
            elif self._reader.read_into(address, part) != length:
                break
            done += length
        return done

    def _lookup(self, directory: Inode, name: bytes) -> bytes:
        if name == b".":
            # Asked for a file handle; any file may have one.
            return self._entry(directory)
        if not stat.S_ISDIR(directory.mode):
            raise FuseError(errno.ENOTDIR)
        entry = self._metadata.lookup(directory, name)
        # Names that do not exist are remembered, too.
        return _ABSENT if entry is None else self._entry(self._metadata.child(entry))

    def _entry(self, inode: Inode) -> bytes:
        node = ROOT_NODE if inode.number == self._metadata.root else inode.number
        return ENTRY_HEADER.pack(node, 0, FOREVER_S, FOREVER_S, 0, 0) + _attributes(inode)

    def _list(self, directory: Inode, body: memoryview, *, plus: bool) -> bytes:
        """Return as many entries as fit."""
        if not stat.S_ISDIR(directory.mode):
            raise FuseError(errno.ENOTDIR)
        start, size = READ_BODY.unpack_from(body)
        room = min(size, MAX_READ_BYTES)
        records = bytearray()
        for position, entry in self._entries_from(directory, start):
            record = DIRENT.pack(entry.inode, position, len(entry.name), entry.kind >> 12) + entry.name
            record += bytes(-len(record) % DIRENT_ALIGNMENT)
            if plus:
                is_child = entry.name not in _DOTS
                record = (self._entry(self._metadata.child(entry)) if is_child else _UNLINKED) + record
            if len(records) + len(record) > room:
                break
            records += record
        return bytes(records)

    def _entries_from(self, directory: Inode, start: int) -> Iterator[tuple[int, Entry]]:
        """Yield the entries behind a position, each with its own."""
        first, place = start >> _PLACE_BITS, start & (1 << _PLACE_BITS) - 1
        for block in range(first, directory.blocks):
            entries = self._metadata.entries(directory, block)
            for index in range(place, len(entries)):
                yield block << _PLACE_BITS | index + 1, entries[index]
            place = 0

    def _xattr(self, node: int, body: memoryview, *, is_list: bool) -> bytes:
        (room,) = XATTR_BODY.unpack_from(body)
        name = bytes(body[XATTR_BODY.size :]).rstrip(b"\0")
        if is_list:
            value = b"".join(name + b"\0" for name in self._metadata.xattrs(self._inode(node)))
        elif not self._with_xattrs:
            raise FuseError(_NEVER_AGAIN)
        else:
            value = self._xattr_value(node, name)
        if room == 0:
            return XATTR_SIZE.pack(len(value))
        if room < len(value):
            raise FuseError(errno.ERANGE)
        return value

    def _xattr_value(self, node: int, name: bytes) -> bytes:
        xattrs = {} if name.startswith(_OVERLAY_XATTR) else self._metadata.xattrs(self._inode(node))
        if name not in xattrs:
            raise FuseError(errno.ENODATA)
        return xattrs[name]


def serve_tree(device: Device, mountpoint: Path) -> FuseMount:
    """Mount the tree of a device onto an existing directory; raise OSError."""
    try:
        # The overlay asks for an attribute of its own for every file, unless it learns that there are none.
        with_xattrs = TreeOperations(device).finds_xattrs()
        mounted = FuseMount(_KIND, lambda: TreeOperations(device, with_xattrs=with_xattrs), mountpoint)
    except DeviceRefusedError as error:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    except MetadataError as error:
        # The number that the kernel gives for an image that it does not understand.
        raise OSError(errno.EINVAL, str(error)) from error
    try:
        read_ahead_in_mount(mountpoint, MAX_READ_BYTES)
    except OSError:
        mounted.close()
        raise
    return mounted


def _attributes(inode: Inode) -> bytes:
    return Attributes(
        inode.number,
        inode.mode,
        inode.size,
        inode.links,
        inode.uid,
        inode.gid,
        inode.device,
        inode.mtime_s,
        inode.mtime_ns,
    ).pack()
