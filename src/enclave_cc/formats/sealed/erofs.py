"""
Write the merged tree as EROFS metadata whose inodes point into the layers.

Only what every kernel since 6.4 reads is used: 512-byte blocks, extended inodes, plain and inline
data, and chunks for sparse files. No checksums: the chunks around are authenticated. The layers follow
the metadata on the same device, which must be padded to whole chunks.
"""

from __future__ import annotations

import stat
import sys
from array import array
from typing import TYPE_CHECKING

from enclave_cc.formats.sealed.erofs_format import (
    BLOCK,
    BLOCK_BITS,
    COMPAT_MTIME,
    DIRENT,
    EXTENDED_INODE,
    FILE_TYPES,
    INCOMPAT_CHUNKED,
    INODE,
    INODE_SLOT_BITS,
    LAYOUT_CHUNKED,
    LAYOUT_INLINE,
    LAYOUT_PLAIN,
    MAGIC,
    MAX_BLOCKS,
    NO_BLOCK,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    XATTR_ALIGNMENT,
    XATTR_HEADER,
)
from enclave_cc.formats.sealed.erofs_layout import Layout, Placement, is_bare, lay_out
from enclave_cc.formats.sealed.node import directory_children
from enclave_cc.formats.tar.chunked import COPY, HOLE

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.node import Node
    from enclave_cc.formats.tar.chunked import ChunkedFile


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
    if total_blocks >= MAX_BLOCKS:
        raise ImageTooLargeError("the image is too large")
    image = bytearray(size)
    _write_bare_inodes(image, layout)
    has_chunks = False
    for number, placement in layout.placements():
        _write_inode(image, layout, placement, number)
        _write_contents(image, layout, placement, _contents(layout, placement))
        has_chunks = has_chunks or placement.layout == LAYOUT_CHUNKED
    _write_superblock(image, layout, total_blocks, has_chunks=has_chunks)
    return image


def _write_superblock(image: bytearray, layout: Layout, total_blocks: int, *, has_chunks: bool) -> None:
    # The root is the first inode, so that its number fits into 16 bits. All else stays zero: no build
    # time, no identifier, no optional features.
    SUPERBLOCK.pack_into(
        image,
        SUPERBLOCK_OFFSET,
        MAGIC,
        COMPAT_MTIME,
        BLOCK_BITS,
        layout.nids[0],
        len(layout.nodes),
        total_blocks,
        INCOMPAT_CHUNKED if has_chunks else 0,
    )


def _write_bare_inodes(image: bytearray, layout: Layout) -> None:
    """Write what most inodes are, files whose data lie in a layer, in one go."""
    metadata_bytes = len(image)
    write = INODE.pack_into
    for number, (node, nid, links) in enumerate(zip(layout.nodes, layout.nids, layout.links, strict=True), 1):
        if not is_bare(node):
            continue
        size = node.size
        write(
            image,
            nid << INODE_SLOT_BITS,
            EXTENDED_INODE | LAYOUT_PLAIN << 1,
            0,
            node.mode,
            0,
            size,
            (metadata_bytes + node.address) >> BLOCK_BITS if size else 0,
            number & 0xFFFFFFFF,
            node.uid,
            node.gid,
            node.mtime_s,
            node.mtime_ns,
            links,
            0,
            0,
        )


def _write_inode(image: bytearray, layout: Layout, placement: Placement, number: int) -> None:
    node = placement.node
    xattrs = placement.xattrs
    INODE.pack_into(
        image,
        placement.offset,
        EXTENDED_INODE | placement.layout << 1,
        (len(xattrs) - len(XATTR_HEADER)) // XATTR_ALIGNMENT + 1 if xattrs else 0,
        node.mode,
        0,
        node.size if stat.S_ISREG(node.mode) else placement.stored_bytes,
        _union(layout, placement, len(image)),
        (number + 1) & 0xFFFFFFFF,
        node.uid,
        node.gid,
        node.mtime_s,
        node.mtime_ns,
        layout.links[number],
        0,
        0,
    )
    start = placement.offset + INODE.size
    image[start : start + len(xattrs)] = xattrs


def _union(layout: Layout, placement: Placement, metadata_bytes: int) -> int:
    """Return the field that means a block address or a device, depending on the file's type."""
    node = placement.node
    if node.chunks is not None:
        return node.chunks.chunk_bits
    if placement.stored_bytes:
        return layout.inode_blocks + placement.first_block if placement.outside_blocks else NO_BLOCK
    if stat.S_ISREG(node.mode):
        return (metadata_bytes + node.address) >> BLOCK_BITS if node.size else 0
    major, minor = node.device
    # The kernel's new_encode_dev().
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def _contents(layout: Layout, placement: Placement) -> bytes | bytearray:
    if placement.node.chunks is not None:
        return placement.node.chunks.copies
    if placement.node.children is None:
        return placement.node.target
    blocks = [_directory_block(layout, placement, names) for names in placement.blocks]
    return b"".join([block.ljust(BLOCK, b"\0") for block in blocks[:-1]] + blocks[-1:])


def _directory_block(layout: Layout, placement: Placement, names: list[bytes]) -> bytes:
    """Write the entries of one block, then their names."""
    children = directory_children(placement.node)
    entries = bytearray()
    name_offset = DIRENT.size * len(names)
    for name in names:
        match name:
            case b".":
                node = placement.node
            case b"..":
                node = placement.parent
            case _:
                node = children[name].node
        nid = layout.nid(node)
        entries += DIRENT.pack(nid, name_offset, FILE_TYPES[stat.S_IFMT(node.mode)], 0)
        name_offset += len(name)
    return bytes(entries) + b"".join(names)


def _chunk_list(file: ChunkedFile, *, data_block: int, copies_block: int) -> array[int]:
    """Return the address of each chunk; ``copies_block`` is where the copied ones lie, in order."""
    chunk_blocks = 1 << file.chunk_bits
    pointers = array("I")
    for block in file.blocks:
        if block == HOLE:
            pointers.append(NO_BLOCK)
        elif block == COPY:
            pointers.append(copies_block)
            copies_block += chunk_blocks
        else:
            pointers.append(data_block + block)
    if sys.byteorder == "big":
        pointers.byteswap()
    return pointers


def _write_contents(
    image: bytearray, layout: Layout, placement: Placement, contents: bytes | bytearray
) -> None:
    outside = contents
    if placement.node.chunks is not None:
        pointers = _chunk_list(
            placement.node.chunks,
            data_block=(len(image) + placement.node.address) >> BLOCK_BITS,
            copies_block=layout.inode_blocks + placement.first_block,
        ).tobytes()
        image[placement.tail_offset : placement.tail_offset + len(pointers)] = pointers
    if placement.layout == LAYOUT_INLINE:
        cut = placement.outside_blocks * BLOCK
        outside, inline = contents[:cut], contents[cut:]
        image[placement.tail_offset : placement.tail_offset + len(inline)] = inline
    start = (layout.inode_blocks + placement.first_block) * BLOCK
    image[start : start + len(outside)] = outside
