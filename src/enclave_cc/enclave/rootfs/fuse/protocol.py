"""
The FUSE protocol as far as we speak it: request numbers, features and records (linux/fuse.h, 7.38).

No IO, and nothing about what is served.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

MAJOR: Final = 7
MINOR: Final = 38
MAX_READ_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096
ROOT_NODE: Final = 1
# What is served never changes.
FOREVER_S: Final = 1 << 30

REQUEST: Final = struct.Struct("<IIQQ16x")  # length, opcode, unique, node
REPLY: Final = struct.Struct("<IiQ")  # length, error, unique
READ_BODY: Final = struct.Struct("<8xQI20x")  # offset, size; of READ, READDIR and READDIRPLUS
OPEN_REPLY: Final = struct.Struct("<QI4x")  # handle, flags
WRITE_BODY: Final = struct.Struct("<8xQI20x")  # offset, size; the data follow
WRITE_REPLY: Final = struct.Struct("<I4x")  # size
FALLOCATE_BODY: Final = struct.Struct("<8xQQI4x")  # offset, size, mode
XATTR_BODY: Final = struct.Struct("<I4x")  # size, of GETXATTR (a name follows) and LISTXATTR
XATTR_SIZE: Final = struct.Struct("<I4x")
INIT_BODY: Final = struct.Struct("<IIII")  # major, minor, readahead, features
INIT_REPLY: Final = struct.Struct("<IIIIHHIIHH32x")
ATTR_HEADER: Final = struct.Struct("<QI4x")  # validity
ENTRY_HEADER: Final = struct.Struct("<QQQQII")  # node, generation, validity of name and attributes
DIRENT: Final = struct.Struct("<QQII")  # inode, offset of the next, length of the name, type
STATFS: Final = struct.Struct("<QQQQQIII4x24x")

_ATTRIBUTES: Final = struct.Struct("<QQQqqqIIIIIIIIII")
_SECTOR: Final = 512
DIRENT_ALIGNMENT: Final = 8


class Opcode(IntEnum):
    """The requests that get an answer other than "no such function", or none at all."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    READDIR = 28
    INTERRUPT = 36
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44


class Feature(IntFlag):
    """What the kernel offers and we take; all of it is offered by every kernel since 5.1."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


class OpenFlag(IntFlag):
    """How the kernel treats what it opened."""

    KEEP_CACHE = 1 << 1
    NO_FLUSH = 1 << 5  # Linux 5.16; older ones ask once whether there is such a request


class FuseError(Exception):
    """A request is answered with an error number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) says about a file."""

    inode: int
    mode: int
    size: int
    links: int = 1
    uid: int = 0
    gid: int = 0
    device: int = 0
    mtime_s: int = 0
    mtime_ns: int = 0

    def pack(self) -> bytes:
        """Return ``struct fuse_attr``; there is one time, which stands for all three."""
        return _ATTRIBUTES.pack(
            self.inode,
            self.size,
            -(-self.size // _SECTOR),
            *(self.mtime_s,) * 3,
            *(self.mtime_ns,) * 3,
            self.mode,
            self.links,
            self.uid,
            self.gid,
            self.device,
            PAGE_BYTES,
            0,
        )
