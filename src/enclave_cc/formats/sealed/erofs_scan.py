"""
Look through all inodes in one pass, without walking the tree: they lie one after the other.

Answers a single question, before a tree is served: does any file have extended attributes?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.chunks import CHUNK_BYTES
from enclave_cc.formats.sealed.erofs_format import (
    BLOCK,
    CHUNK_POINTER,
    INODE,
    INODE_SLOT_BITS,
    LAYOUT_CHUNKED,
    LAYOUT_INLINE,
    MAX_CHUNK_BITS,
)
from enclave_cc.formats.sealed.erofs_records import MetadataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.sealed.erofs_reader import MetadataReader

_SLOT: Final = 1 << INODE_SLOT_BITS
_SERIAL: Final = slice(20, 24)


def has_xattrs(read: Callable[[int, int], bytes], metadata: MetadataReader) -> bool:
    """
    Tell whether any file has extended attributes; raise ``MetadataError``.

    Inodes lie in the order of their serial numbers, each in the first slot behind the one before it or,
    if its tail needs that, in the next slot whose end begins a block.
    """
    window = _Window(read)
    position = metadata.root << INODE_SLOT_BITS
    for number in range(1, metadata.inodes + 1):
        serial = (number & 0xFFFFFFFF).to_bytes(4, "little")
        inode = window.inode(position)
        if inode[_SERIAL] != serial:
            position += -(position + INODE.size) % BLOCK
            inode = window.inode(position)
        if inode[_SERIAL] != serial:
            raise MetadataError("an inode is not where it belongs")
        form, xattrs, _mode, _reserved, size, union, *_rest = INODE.unpack(inode)
        if xattrs:
            return True
        position = (position + INODE.size + _tail(form >> 1, size, union) + _SLOT - 1) & -_SLOT
    return False


def _tail(layout: int, size: int, union: int) -> int:
    """Return how many bytes follow an inode without attributes."""
    if layout == LAYOUT_INLINE:
        return size % BLOCK
    if layout == LAYOUT_CHUNKED:
        return CHUNK_POINTER.size * -(-size // (BLOCK << min(union, MAX_CHUNK_BITS)))
    return 0


class _Window:
    """Reads up to the end of a chunk at a time, so that nothing behind the metadata is touched."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._start = 0
        self._bytes = b""

    def inode(self, position: int) -> bytes:
        place = position - self._start
        if place + INODE.size > len(self._bytes):
            end = -(-(position + INODE.size) // CHUNK_BYTES) * CHUNK_BYTES
            self._start, self._bytes, place = position, self._read(position, end - position), 0
        inode = self._bytes[place : place + INODE.size]
        if len(inode) != INODE.size:
            raise MetadataError("the inodes are cut off")
        return inode
