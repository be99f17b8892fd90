"""
The records of EROFS that we write and read, and the numbers in them; no code.

One place for both directions. See Documentation/filesystems/erofs.rst of Linux, and erofs_fs.h.
"""

from __future__ import annotations

import stat
import struct
from typing import Final

# The block size of tar, so that a file's data in a layer begins at a block. Needs Linux 6.4.
BLOCK_BITS: Final = 9
BLOCK: Final = 1 << BLOCK_BITS
# Block addresses have 32 bits.
MAX_BLOCKS: Final = 1 << 32
NO_BLOCK: Final = 0xFFFFFFFF

SUPERBLOCK_OFFSET: Final = 1024
MAGIC: Final = 0xE0F5E1E2
# Inodes have times of their own.
COMPAT_MTIME: Final = 2
# There are files in chunks. Readers that do not know such a feature must not mount.
INCOMPAT_CHUNKED: Final = 4
# Magic, checksum (4x), compatible features, block bits, root, inodes, build time (12x), blocks, options
# (40x), features that a reader must know, more options.
SUPERBLOCK: Final = struct.Struct("<I4xIBxHQ12xI40xI44x")

# An inode's number is its offset in slots.
INODE_SLOT_BITS: Final = 5
EXTENDED_INODE: Final = 1
LAYOUT_PLAIN: Final = 0
LAYOUT_INLINE: Final = 2
LAYOUT_CHUNKED: Final = 4
# Of a file in chunks, instead of an address: how often the block size is doubled for a chunk, in five bits.
MAX_CHUNK_BITS: Final = 31
# The list of chunks follows the inode and its attributes: the address of each, or NO_BLOCK for a hole.
CHUNK_POINTER: Final = struct.Struct("<I")
# An extended inode: format, attributes, mode, reserved, size, what it points to (an address or a device),
# serial number, owner, group, seconds and nanoseconds of its time, links, and 16 reserved bytes.
INODE: Final = struct.Struct("<HHHHQIIIIqIIQQ")

# Inode, offset of the name, type, 0.
DIRENT: Final = struct.Struct("<QHBB")
FILE_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

# Behind an inode that has attributes; none of them are shared with other inodes.
XATTR_HEADER: Final = bytes(12)
XATTR_ALIGNMENT: Final = 4
# Length of the rest of the name, prefix, length of the value.
XATTR_ENTRY: Final = struct.Struct("<BBH")
# Whole names first: they have an index of their own and leave nothing to store.
XATTR_PREFIXES: Final = (
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
)
