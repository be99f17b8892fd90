"""
Read the EROFS metadata that ``erofs`` writes, and no others: for kernels that cannot mount them.

Works piece by piece over a function that returns authenticated plaintext, so that opening costs
nothing and memory does not grow with the tree. Everything is checked all the same: whatever the
bytes are, the answer is a value or ``MetadataError``.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.formats.sealed.erofs_format import (
    BLOCK,
    BLOCK_BITS,
    CHUNK_POINTER,
    COMPAT_MTIME,
    EXTENDED_INODE,
    FILE_TYPES,
    INCOMPAT_CHUNKED,
    INODE,
    INODE_SLOT_BITS,
    LAYOUT_CHUNKED,
    LAYOUT_INLINE,
    LAYOUT_PLAIN,
    MAGIC,
    MAX_CHUNK_BITS,
    NO_BLOCK,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    XATTR_ALIGNMENT,
    XATTR_HEADER,
)
from enclave_cc.formats.sealed.erofs_records import (
    Entry,
    MetadataError,
    first_name,
    parse_directory_block,
    parse_xattrs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Entry", "Inode", "MetadataError", "MetadataReader"]

_MAX_TARGET_BYTES: Final = 4095
_SECOND_NS: Final = 1_000_000_000
_FORMATS: Final = tuple(
    EXTENDED_INODE | layout << 1 for layout in (LAYOUT_PLAIN, LAYOUT_INLINE, LAYOUT_CHUNKED)
)
_FIRST_INODE: Final = (SUPERBLOCK_OFFSET + SUPERBLOCK.size) >> INODE_SLOT_BITS


@dataclass(frozen=True, slots=True)
class Inode:
    """
    One file of any type.

    ``address`` is where its contents begin on the device, in bytes; ``tail_address`` where the last,
    partial block of a directory or link does if it lies elsewhere, else 0. A sparse file has chunks of
    ``chunk_bytes``, and the list of them at ``address``; for others it is 0. ``device`` is encoded as the
    kernel does (``new_encode_dev``).
    """

    number: int
    mode: int
    uid: int
    gid: int
    mtime_s: int
    mtime_ns: int
    links: int
    size: int
    address: int
    tail_address: int
    device: int
    xattr_bytes: int
    chunk_bytes: int = 0

    @property
    def kind(self) -> int:
        """Return the type, as in a mode."""
        return stat.S_IFMT(self.mode)

    @property
    def blocks(self) -> int:
        """Return how many blocks a directory has."""
        return -(-self.size // BLOCK)


class MetadataReader:
    """
    Looks up files, for one thread.

    ``read(offset, size)`` returns that many bytes of the device, or fewer at its end; what it raises
    passes through. Every method raises ``MetadataError``.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        superblock = self._exactly(SUPERBLOCK_OFFSET, SUPERBLOCK.size)
        self.root: int
        self.inodes: int
        self.blocks: int
        *_known, self.root, self.inodes, self.blocks, features = SUPERBLOCK.unpack(superblock)
        self._has_chunks = features == INCOMPAT_CHUNKED
        features = INCOMPAT_CHUNKED if self._has_chunks else 0
        ours = (MAGIC, COMPAT_MTIME, BLOCK_BITS, self.root, self.inodes, self.blocks, features)
        if superblock != SUPERBLOCK.pack(*ours):
            raise MetadataError("this is no image of ours, or it uses features that we do not")

    @classmethod
    def of_bytes(cls, metadata: bytes | bytearray) -> Self:
        """Read metadata in memory."""
        return cls(lambda offset, size: bytes(metadata[offset : offset + size]))

    def inode(self, number: int) -> Inode:
        """Return the inode that a directory entry names."""
        if number < _FIRST_INODE or number >= self.blocks << BLOCK_BITS - INODE_SLOT_BITS:
            raise MetadataError("an inode lies outside of the image")
        offset = number << INODE_SLOT_BITS
        form, xattrs, mode, zero, size, union, _serial, uid, gid, mtime_s, mtime_ns, links, *zeros = (
            INODE.unpack(self._exactly(offset, INODE.size))
        )
        if form not in _FORMATS or zero or any(zeros):
            raise MetadataError("an inode has an unknown format")
        if stat.S_IFMT(mode) not in FILE_TYPES or mtime_ns >= _SECOND_NS or not links:
            raise MetadataError("an inode has impossible attributes")
        xattr_bytes = len(XATTR_HEADER) + (xattrs - 1) * XATTR_ALIGNMENT if xattrs else 0
        attributes = (uid, gid, mtime_s, mtime_ns, links, size)
        behind = offset + INODE.size + xattr_bytes
        if form >> 1 == LAYOUT_CHUNKED:
            chunk_bytes = self._chunk_bytes(mode, size, union)
            return Inode(number, mode, *attributes, behind, 0, 0, xattr_bytes, chunk_bytes)
        tail = behind if form >> 1 == LAYOUT_INLINE else 0
        address, device = self._union(mode, size, union, tail)
        return Inode(number, mode, *attributes, address, tail, device, xattr_bytes)

    def target(self, inode: Inode) -> bytes:
        """Return where a symbolic link points to."""
        if inode.kind != stat.S_IFLNK:
            raise MetadataError("not a symbolic link")
        whole = inode.size if not inode.tail_address else inode.size // BLOCK * BLOCK
        target = self._exactly(inode.address, whole) if whole else b""
        if whole < inode.size:
            target += self._exactly(inode.tail_address, inode.size - whole)
        if b"\0" in target:
            raise MetadataError("the target of a symbolic link is malformed")
        return target

    def extents(self, file: Inode, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield addresses and lengths of a file's contents, which end with the file; address 0 is a hole."""
        if file.kind != stat.S_IFREG:
            raise MetadataError("not a regular file")
        end = min(offset + size, file.size)
        if not file.chunk_bytes:
            if offset < end:
                yield file.address + offset, end - offset
            return
        while offset < end:
            chunk, skipped = divmod(offset, file.chunk_bytes)
            length = min(file.chunk_bytes - skipped, end - offset)
            address = self._chunk_address(file, chunk, skipped + length)
            yield (address + skipped if address else 0), length
            offset += length

    def entries(self, directory: Inode, block: int) -> list[Entry]:
        """Return the entries of one block of a directory, from 0 to ``directory.blocks - 1``."""
        data = self._directory_block(directory, block)
        return parse_directory_block(data, is_last=block == directory.blocks - 1)

    def lookup(self, directory: Inode, name: bytes) -> Entry | None:
        """Find a name, by bisection: blocks are sorted as the names in them are."""
        low, high = 0, directory.blocks
        while high - low > 1:
            middle = (low + high) // 2
            if name < first_name(self._directory_block(directory, middle)):
                high = middle
            else:
                low = middle
        return next((entry for entry in self.entries(directory, low) if entry.name == name), None)

    def child(self, entry: Entry) -> Inode:
        """Return what an entry names."""
        inode = self.inode(entry.inode)
        if inode.kind != entry.kind:
            raise MetadataError("an entry and its inode have different types")
        return inode

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """Return the extended attributes."""
        if not inode.xattr_bytes:
            return {}
        start = (inode.number << INODE_SLOT_BITS) + INODE.size
        return parse_xattrs(self._exactly(start, inode.xattr_bytes))

    def _directory_block(self, directory: Inode, block: int) -> bytes:
        if directory.kind != stat.S_IFDIR or not 0 <= block < directory.blocks:
            raise MetadataError("not a block of a directory")
        start = block * BLOCK
        size = min(BLOCK, directory.size - start)
        in_tail = directory.tail_address and size < BLOCK
        return self._exactly(directory.tail_address if in_tail else directory.address + start, size)

    def _chunk_bytes(self, mode: int, size: int, union: int) -> int:
        if not self._has_chunks or not stat.S_ISREG(mode) or not size or union > MAX_CHUNK_BITS:
            raise MetadataError("an inode has an unknown format")
        return BLOCK << union

    def _chunk_address(self, file: Inode, chunk: int, used_bytes: int) -> int:
        pointer = self._exactly(file.address + chunk * CHUNK_POINTER.size, CHUNK_POINTER.size)
        (block,) = CHUNK_POINTER.unpack(pointer)
        if block == NO_BLOCK:
            return 0
        address: int = block << BLOCK_BITS
        if not 0 < address <= (self.blocks << BLOCK_BITS) - used_bytes:
            raise MetadataError("contents lie outside of the image")
        return address

    def _union(self, mode: int, size: int, union: int, tail: int) -> tuple[int, int]:
        """Return address and device; the type of a file decides which of them it has."""
        image_bytes = self.blocks << BLOCK_BITS
        match stat.S_IFMT(mode):
            case stat.S_IFREG:
                whole, absent = size, 0
                is_valid = not tail
            case stat.S_IFDIR | stat.S_IFLNK:
                whole, absent = size // BLOCK * BLOCK if tail else size, NO_BLOCK
                longest = _MAX_TARGET_BYTES if stat.S_ISLNK(mode) else image_bytes
                is_valid = 0 < size <= longest and (not tail or _is_tail(tail, size % BLOCK))
            case kind:
                if size or tail or (union and kind in (stat.S_IFIFO, stat.S_IFSOCK)):
                    raise MetadataError("a special file has contents")
                return 0, union
        address = union << BLOCK_BITS
        if not is_valid or (not whole and union != absent):
            raise MetadataError("an inode has an impossible size")
        if whole and not 0 < address <= image_bytes - whole:
            raise MetadataError("contents lie outside of the image")
        return (address if whole else 0), 0

    def _exactly(self, offset: int, size: int) -> bytes:
        data = self._read(offset, size)
        if len(data) != size:
            raise MetadataError("the metadata are cut off")
        return data


def _is_tail(address: int, size: int) -> bool:
    """Tell whether there is a partial block, and it lies within one block."""
    return size > 0 and address % BLOCK + size <= BLOCK
