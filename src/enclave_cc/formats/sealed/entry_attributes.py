"""What an archive's entry says of its file, put into a node of the tree; what no file can have is refused."""

from __future__ import annotations

import stat
from functools import cache
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.layer_path import LayerError
from enclave_cc.formats.tar.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.sealed.node import Node
    from enclave_cc.formats.sealed.tree_budget import TreeBudget
    from enclave_cc.formats.tar.entry import TarEntry

_MAX_TARGET_BYTES: Final = 4095
# Linux lists no more than this of one file; an EROFS inode counts its attributes in 16 bits.
_MAX_XATTRS_BYTES: Final = 128 << 10
_XATTR_OVERHEAD_BYTES: Final = 8

# The overlay file system on top would obey these; an image has no business in its bookkeeping.
_OVERLAY_XATTR: Final = b"trusted.overlay."

FILE_KINDS: Final = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.SYMBOLIC_LINK: stat.S_IFLNK,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.FIFO: stat.S_IFIFO,
}

# Linux cannot give a symbolic link other permissions, whatever the archive says.
_LINK_MODE: Final = stat.S_IFLNK | 0o777


def give_attributes(node: Node, entry: TarEntry, budget: TreeBudget, *, layer: int, base: int) -> None:
    """State a node as an entry of ``layer`` does, whose stream begins at ``base``; raise ``LayerError``."""
    xattr_bytes = _check_xattrs(entry.xattrs) if entry.xattrs else 0
    if len(entry.target) > _MAX_TARGET_BYTES:
        raise LayerError("the target of a symbolic link is too long")
    budget.spend_text(xattr_bytes + len(entry.target))
    if entry.chunks is not None:
        budget.spend_sparse(entry.chunks.cost_bytes)
    node.mode = _mode(entry.kind, entry.mode)
    node.uid = entry.uid
    node.gid = entry.gid
    node.mtime_s = entry.mtime_s
    node.mtime_ns = entry.mtime_ns
    node.xattrs = entry.xattrs
    node.size = entry.size
    node.address = base + entry.data_offset
    node.chunks = entry.chunks
    node.target = entry.target
    node.device = entry.device
    node.stated_in = layer


@cache
def _mode(kind: EntryKind, permissions: int) -> int:
    """Return type and permissions as one number, the same object for all files that have the same."""
    return _LINK_MODE if kind is EntryKind.SYMBOLIC_LINK else FILE_KINDS[kind] | permissions


def _check_xattrs(xattrs: Mapping[bytes, bytes]) -> int:
    """Refuse what a file cannot have; return how much there is."""
    if any(name.startswith(_OVERLAY_XATTR) for name in xattrs):
        raise LayerError("an extended attribute belongs to the overlay file system")
    total = sum(len(name) + len(value) + _XATTR_OVERHEAD_BYTES for name, value in xattrs.items())
    if total > _MAX_XATTRS_BYTES:
        raise LayerError("a file has too many extended attributes")
    return total
