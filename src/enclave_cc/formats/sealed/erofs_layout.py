"""
Decide where each inode and directory of an EROFS image lies, before a byte is written.

Inodes follow the superblock in breadth-first order, so that listing a directory reads neighbouring
blocks; the contents of directories and long links come after all inodes. See
Documentation/filesystems/erofs.rst of Linux for the format.
"""

from __future__ import annotations

import stat
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.erofs_format import (
    BLOCK,
    CHUNK_POINTER,
    DIRENT,
    INODE,
    INODE_SLOT_BITS,
    LAYOUT_CHUNKED,
    LAYOUT_INLINE,
    LAYOUT_PLAIN,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    XATTR_ALIGNMENT,
    XATTR_ENTRY,
    XATTR_HEADER,
    XATTR_PREFIXES,
)
from enclave_cc.formats.sealed.node import directory_children

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enclave_cc.formats.sealed.node import Node

_SLOT: Final = 1 << INODE_SLOT_BITS


@dataclass(slots=True)
class Placement:
    """Where one inode lies; ``parent`` and ``blocks`` (names, block by block) are for directories."""

    node: Node
    parent: Node
    xattrs: bytes
    blocks: Sequence[list[bytes]]
    stored_bytes: int  # of a directory or link, or copied for a sparse file; other data lie in the layers
    offset: int = 0
    layout: int = LAYOUT_PLAIN
    first_block: int = 0  # of what is not inline, counted from the end of the inodes

    @property
    def tail_offset(self) -> int:
        """Return where inline data, or the list of chunks, begin."""
        return self.offset + INODE.size + len(self.xattrs)

    @property
    def outside_blocks(self) -> int:
        """Return how many blocks lie outside of the inode."""
        if self.layout == LAYOUT_INLINE:
            return self.stored_bytes // BLOCK
        return -(-self.stored_bytes // BLOCK)


@dataclass(frozen=True, slots=True)
class Layout:
    """
    Where everything lies, the root first; both numbers of blocks count from the image's start.

    An image has hundreds of thousands of inodes: what is known of each are numbers in columns, and a
    placement is made when it is asked for.
    """

    nodes: list[Node]
    nids: array[int]
    links: array[int]
    parents: dict[int, Node]  # of directories, by their place among the nodes
    inode_blocks: int
    blocks: int

    def nid(self, node: Node) -> int:
        """Return the number by which directory entries name an inode."""
        return self.nids[node.number]

    def placements(self) -> Iterator[tuple[int, Placement]]:
        """Yield the numbers of those inodes that are not bare and where they lie, in their order."""
        first_block = 0
        for number, node in enumerate(self.nodes):
            if is_bare(node):
                continue
            placement = _placement(node, self.parents.get(number, node))
            _place(placement, self.nids[number] << INODE_SLOT_BITS)
            placement.first_block = first_block
            first_block += placement.outside_blocks
            yield number, placement


def is_bare(node: Node) -> bool:
    """Tell whether nothing of an inode lies in the metadata but itself; most are like this."""
    return stat.S_ISREG(node.mode) and node.chunks is None and not node.xattrs


def lay_out(root: Node) -> Layout:
    """Place every inode that the root reaches."""
    nodes, links, parents = _visit(root)
    nids = array("Q")
    position = SUPERBLOCK_OFFSET + SUPERBLOCK.size
    outside = 0
    for number, node in enumerate(nodes):
        if is_bare(node):
            offset = _slot(position)
            position = offset + INODE.size
        else:
            placement = _placement(node, parents.get(number, node))
            position = _place(placement, position)
            offset = placement.offset
            outside += placement.outside_blocks
        nids.append(offset >> INODE_SLOT_BITS)
    inode_blocks = -(-position // BLOCK)
    return Layout(nodes, nids, links, parents, inode_blocks, inode_blocks + outside)


def _visit(root: Node) -> tuple[list[Node], array[int], dict[int, Node]]:
    """Walk breadth first, number the nodes and count links; the root is its own parent."""
    nodes = [root]
    links = array("Q", [2])
    parents = {0: root}
    root.number = 0
    for place, directory in enumerate(nodes):  # grows while it is walked
        if directory.children is None:
            continue
        # Once: from now on they are found in order.
        directory.children = dict(sorted(directory.children.items()))
        for child in directory.children.values():
            node = child.node
            number = node.number
            # A number may be left from another writing.
            if number < len(nodes) and nodes[number] is node:
                links[number] += 1
                continue
            node.number = len(nodes)
            if node.children is None:
                links.append(1)
            else:
                links.append(2)
                parents[node.number] = directory
                links[place] += 1
            nodes.append(node)
    return nodes, links, parents


def _placement(node: Node, parent: Node) -> Placement:
    blocks: Sequence[list[bytes]] = ()
    stored_bytes = 0
    if node.children is not None:
        blocks, stored_bytes = _directory_blocks(node)
    elif stat.S_ISLNK(node.mode):
        stored_bytes = len(node.target)
    elif node.chunks is not None:
        stored_bytes = len(node.chunks.copies)
    xattrs = encode_xattrs(node.xattrs) if node.xattrs else b""
    return Placement(node, parent, xattrs, blocks, stored_bytes)


def _directory_blocks(node: Node) -> tuple[list[list[bytes]], int]:
    """Distribute the sorted names over blocks; return them and the directory's size."""
    blocks: list[list[bytes]] = [[]]
    used = 0
    for name in sorted([*directory_children(node), b".", b".."]):
        needed = DIRENT.size + len(name)
        if used + needed > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += needed
    return blocks, (len(blocks) - 1) * BLOCK + used


def _place(placement: Placement, position: int) -> int:
    """
    Give an inode its offset, at or after ``position``; return where the next may begin.

    Behind a sparse file comes the list of its chunks. The last, partial block of a directory or link
    moves behind its inode and attributes if it fits into one block together with them: the kernel takes
    a link inline only then.
    """
    tail = placement.stored_bytes % BLOCK
    fixed = len(placement.xattrs) + tail
    placement.offset = _slot(position)
    if placement.node.chunks is not None:
        placement.layout = LAYOUT_CHUNKED
        return placement.tail_offset + CHUNK_POINTER.size * len(placement.node.chunks.blocks)
    if not tail or fixed > BLOCK - INODE.size or _long_link(placement):
        return placement.offset + INODE.size + len(placement.xattrs)
    placement.layout = LAYOUT_INLINE
    if (placement.offset + INODE.size) % BLOCK + fixed > BLOCK:
        # The next inode slot whose end begins a block.
        placement.offset += -(placement.offset + INODE.size) % BLOCK
    return placement.offset + INODE.size + fixed


def _slot(position: int) -> int:
    return (position + _SLOT - 1) & -_SLOT


def _long_link(placement: Placement) -> bool:
    """Tell whether this is a link of a block or more, which the kernel reads from whole blocks only."""
    return placement.node.children is None and placement.stored_bytes >= BLOCK


def encode_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes:
    """
    Write the attributes as they follow an inode, empty if there are none.

    Names in other namespaces than EROFS knows are left out: they come from other operating systems,
    and unpacking on Linux could not set them either.
    """
    body = bytearray()
    for name in sorted(xattrs):
        split = _split_name(name)
        if split is None:
            continue
        index, suffix = split
        value = xattrs[name]
        body += XATTR_ENTRY.pack(len(suffix), index, len(value)) + suffix + value
        body += bytes(-len(body) % XATTR_ALIGNMENT)
    return XATTR_HEADER + bytes(body) if body else b""


def _split_name(name: bytes) -> tuple[int, bytes] | None:
    for prefix, index in XATTR_PREFIXES:
        is_whole = not prefix.endswith(b".")
        if name == prefix if is_whole else (name.startswith(prefix) and len(name) > len(prefix)):
            return index, name.removeprefix(prefix)
    return None
