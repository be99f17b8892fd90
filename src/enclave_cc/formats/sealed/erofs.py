"""
Write the merged tree as EROFS metadata whose inodes point into the layers.

Only what every kernel since 6.4 reads is used: 512-byte blocks, extended inodes, plain and inline
data. No checksums: the chunks around are authenticated. The layers follow the metadata on the same
device, which must be padded to whole chunks.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.erofs_layout import (
    BLOCK,
    BLOCK_BITS,
    DIRENT_BYTES,
    LAYOUT_INLINE,
    SUPERBLOCK_OFFSET,
    Layout,
    Placement,
    lay_out,
)
from enclave_cc.formats.sealed.node import directory_children

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.node import Node

_MAGIC: Final = 0xE0F5E1E2
# Inodes have times of their own.
_COMPAT_MTIME: Final = 2
_MAX_BLOCKS: Final = 1 << 32
_NO_BLOCK: Final = 0xFFFFFFFF
_EXTENDED_INODE: Final = 1

# Magic, checksum (4x), features, block bits, root, inodes, build time (12x), blocks, 88 bytes of options.
_SUPERBLOCK: Final = struct.Struct("<I4xIBxHQ12xI88x")
_INODE: Final = struct.Struct("<HHHHQIIIIqIIQQ")
_DIRENT: Final = struct.Struct("<QHBB")
_FILE_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}


class ImageTooLargeError(ValueError):
    """The layers and their metadata have more blocks than an image can address."""


def write_metadata(root: Node, *, data_bytes: int, align_bytes: int) -> bytearray:
    """
    Return the metadata, padded to ``align_bytes``; the ``data_bytes`` of all layers begin right after.

    The addresses of files in the tree count from the first byte of the first layer.
    """
    layout = lay_out(root)
    size = -(-layout.blocks * BLOCK // align_bytes) * align_bytes
    total_blocks = (size + data_bytes) >> BLOCK_BITS
    if total_blocks >= _MAX_BLOCKS:
        raise ImageTooLargeError("the image is too large")
    image = bytearray(size)
    for number, placement in enumerate(layout.placements, start=1):
        contents = _contents(layout, placement)
        _write_inode(image, layout, placement, number)
        _write_contents(image, layout, placement, contents)
    _write_superblock(image, layout, total_blocks)
    return image


def _write_superblock(image: bytearray, layout: Layout, total_blocks: int) -> None:
    # The root is the first inode, so that its number fits into 16 bits. All else stays zero: no build
    # time, no identifier, no optional features.
    root = layout.placements[0].nid
    _SUPERBLOCK.pack_into(
        image,
        SUPERBLOCK_OFFSET,
        _MAGIC,
        _COMPAT_MTIME,
        BLOCK_BITS,
        root,
        len(layout.placements),
        total_blocks,
    )


def _write_inode(image: bytearray, layout: Layout, placement: Placement, number: int) -> None:
    node = placement.node
    xattrs = placement.xattrs
    _INODE.pack_into(
        image,
        placement.offset,
        _EXTENDED_INODE | placement.layout << 1,
        (len(xattrs) - 12) // 4 + 1 if xattrs else 0,
        node.mode,
        0,
        node.size if stat.S_ISREG(node.mode) else placement.stored_bytes,
        _union(layout, placement, len(image)),
        number & 0xFFFFFFFF,
        node.uid,
        node.gid,
        node.mtime_s,
        node.mtime_ns,
        placement.links,
        0,
        0,
    )
    start = placement.offset + _INODE.size
    image[start : start + len(xattrs)] = xattrs


def _union(layout: Layout, placement: Placement, metadata_bytes: int) -> int:
    """Return the field that means a block address or a device, depending on the file's type."""
    node = placement.node
    if placement.stored_bytes:
        return layout.inode_blocks + placement.first_block if placement.outside_blocks else _NO_BLOCK
    if stat.S_ISREG(node.mode):
        return (metadata_bytes + node.address) >> BLOCK_BITS if node.size else 0
    major, minor = node.device
    # The kernel's new_encode_dev().
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def _contents(layout: Layout, placement: Placement) -> bytes:
    if placement.node.children is None:
        return placement.node.target
    blocks = [_directory_block(layout, placement, names) for names in placement.blocks]
    return b"".join([block.ljust(BLOCK, b"\0") for block in blocks[:-1]] + blocks[-1:])


def _directory_block(layout: Layout, placement: Placement, names: list[bytes]) -> bytes:
    """Write the entries of one block, then their names."""
    children = directory_children(placement.node)
    entries = bytearray()
    name_offset = DIRENT_BYTES * len(names)
    for name in names:
        match name:
            case b".":
                node = placement.node
            case b"..":
                node = placement.parent
            case _:
                node = children[name].node
        nid = layout.by_node[id(node)].nid
        entries += _DIRENT.pack(nid, name_offset, _FILE_TYPES[stat.S_IFMT(node.mode)], 0)
        name_offset += len(name)
    return bytes(entries) + b"".join(names)


def _write_contents(image: bytearray, layout: Layout, placement: Placement, contents: bytes) -> None:
    outside = contents
    if placement.layout == LAYOUT_INLINE:
        cut = placement.outside_blocks * BLOCK
        outside, inline = contents[:cut], contents[cut:]
        image[placement.tail_offset : placement.tail_offset + len(inline)] = inline
    start = (layout.inode_blocks + placement.first_block) * BLOCK
    image[start : start + len(outside)] = outside
