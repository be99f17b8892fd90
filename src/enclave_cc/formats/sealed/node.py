"""The nodes of the merged tree: mutable and small, because an image has hundreds of thousands."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, TypeAlias

from enclave_cc.formats.tar.entry import NO_XATTRS

if TYPE_CHECKING:
    from enclave_cc.formats.tar.chunked import ChunkedFile

IMPLICIT_DIRECTORY_MODE = stat.S_IFDIR | 0o755


class Node:
    """One inode, which several entries may share; ``children`` is None except for directories."""

    __slots__ = (
        "address",
        "children",
        "chunks",
        "device",
        "gid",
        "layer",
        "mode",
        "mtime_ns",
        "mtime_s",
        "number",
        "pruned_in",
        "size",
        "stated_in",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.uid = 0
        self.gid = 0
        self.mtime_s = 0
        self.mtime_ns = 0
        self.xattrs = NO_XATTRS
        self.size = 0
        self.address = 0  # of a file's data, counted from the first byte of the first layer
        self.chunks: ChunkedFile | None = None  # of a sparse file
        self.target = b""
        self.device = (0, 0)
        self.children: dict[bytes, DirectoryEntry] | None = {} if stat.S_ISDIR(mode) else None
        # The layer that put it at its own place or last went through it; see ``Child``.
        self.layer = -1
        # Its place among the inodes that are being written.
        self.number = 0
        # The layer whose entry gave the attributes; a directory that a path merely implies has none.
        self.stated_in = -1
        # The last layer that removed from a directory all that lower layers had put there.
        self.pruned_in = -1

    @property
    def node(self) -> Node:
        """Return what a directory entry names: itself, which saves an object for nearly every file."""
        return self

    def forget_attributes(self) -> None:
        """Become the directory that a path implies."""
        self.mode = IMPLICIT_DIRECTORY_MODE
        self.uid = self.gid = self.mtime_s = self.mtime_ns = 0
        self.xattrs = NO_XATTRS
        self.stated_in = -1


class Child:
    """The directory entry of a hard link: a node that has its own place elsewhere, and the link's layer."""

    __slots__ = ("layer", "node")

    def __init__(self, node: Node, layer: int) -> None:
        self.node = node
        self.layer = layer


DirectoryEntry: TypeAlias = Node | Child


def directory_children(node: Node) -> dict[bytes, DirectoryEntry]:
    """Return the children of a node that is known to be a directory."""
    if node.children is None:
        raise TypeError("not a directory")
    return node.children
