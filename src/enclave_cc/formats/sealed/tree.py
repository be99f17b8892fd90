"""
Merge the layers of an image into one tree (OCI image specification, "Image Layer Filesystem Changeset").

Only metadata is held: a file is an address in the concatenated layers. A whiteout hides what lower
layers put there, never what its own layer brings, and it does not matter which of the two comes
first in the archive. Symbolic links in the middle of a path are followed only if the same layer made
them; one from a lower layer is replaced by a directory, as happens when layers are unpacked apart
and stacked. Nothing leaves the root.
"""

from __future__ import annotations

import stat
from functools import cache
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.layer_path import (
    MAX_NAME_BYTES,
    META,
    NO_NAMES,
    OPAQUE,
    WHITEOUT,
    LayerError,
    PathEscapesError,
    is_plain,
    split_path,
)
from enclave_cc.formats.sealed.node import (
    IMPLICIT_DIRECTORY_MODE,
    Child,
    DirectoryEntry,
    Node,
    directory_children,
)
from enclave_cc.formats.tar.chunked import MAX_SPARSE_BYTES
from enclave_cc.formats.tar.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.tar.entry import TarEntry

__all__ = ["LayerError", "PathEscapesError", "Tree", "TreeTooLargeError"]

# About half a KiB each; the largest public images have a few hundred thousand files.
MAX_NODES: Final = 1_000_000
# Names, targets and attributes of the whole tree, hidden ones included.
MAX_TEXT_BYTES: Final = 256 << 20
# Deeper paths cannot be opened by their name (PATH_MAX is 4096).
MAX_DEPTH: Final = 2048
_MAX_SYMLINKS: Final = 40
# Names in the targets of the links on the way to all entries together. Each takes time, and one entry may ask
# for 40 times 2048. An image that has every file behind a link or two stays far below.
MAX_LINK_STEPS: Final = 20_000_000
_MAX_TARGET_BYTES: Final = 4095
# Linux lists no more than this of one file; an EROFS inode counts its attributes in 16 bits.
_MAX_XATTRS_BYTES: Final = 128 << 10
_XATTR_OVERHEAD_BYTES: Final = 8

# The overlay file system on top would obey these; an image has no business in its bookkeeping.
_OVERLAY_XATTR: Final = b"trusted.overlay."

_TYPES: Final = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.SYMBOLIC_LINK: stat.S_IFLNK,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.FIFO: stat.S_IFIFO,
}

# Linux cannot give a symbolic link other permissions, whatever the archive says.
_LINK_MODE: Final = stat.S_IFLNK | 0o777


class TreeTooLargeError(LayerError):
    """The tree has more files or longer names than we hold in memory."""


class Tree:
    """The merged tree; ``begin_layer`` from the lowest layer upwards, then ``add`` its entries in order."""

    def __init__(
        self,
        *,
        max_nodes: int = MAX_NODES,
        max_text_bytes: int = MAX_TEXT_BYTES,
        max_sparse_bytes: int = MAX_SPARSE_BYTES,
        max_depth: int = MAX_DEPTH,
        max_link_steps: int = MAX_LINK_STEPS,
    ) -> None:
        self.root = Node(IMPLICIT_DIRECTORY_MODE)
        self._max_depth = max_depth
        self._sparse_left = max_sparse_bytes
        self._nodes_left = max_nodes
        self._text_left = max_text_bytes
        self._link_steps_left = max_link_steps
        self._layer = -1
        self._base = 0
        # Archives list a directory's entries together, so remembering one directory saves most walks.
        self._last_parent: bytes | None = None
        self._last = self.root

    def begin_layer(self, base: int) -> None:
        """Start the next layer; ``base`` is where its stream begins among all layers."""
        self._layer += 1
        self._base = base
        self._last_parent = None

    def add(self, entry: TarEntry) -> None:
        """Apply one entry of the current layer; raise ``LayerError`` if that makes no sense."""
        path = entry.path
        parent, _, name = path.rpartition(b"/")
        if parent == self._last_parent and is_plain(name):
            self._put_or_link(self._last, name, entry)
            return
        parts = split_path(path)
        if not parts:
            self._add_root(entry)
            return
        is_parent = name == parts[-1]
        name = parts.pop()
        if WHITEOUT in path:
            if any(part.startswith(META) for part in parts):
                return
            if any(part.startswith(WHITEOUT) for part in parts):
                raise LayerError("a whiteout has children")
            if name.startswith(WHITEOUT):
                self._hide(parts, name)
                return
        directory = self._directory(parts)
        self._last_parent, self._last = (parent if is_parent else None), directory
        self._put_or_link(directory, name, entry)

    def _put_or_link(self, directory: Node, name: bytes, entry: TarEntry) -> None:
        if entry.kind is EntryKind.HARD_LINK:
            self._link(directory, name, entry)
        else:
            self._put(directory, name, entry)

    def _add_root(self, entry: TarEntry) -> None:
        if entry.kind is not EntryKind.DIRECTORY:
            raise LayerError("the root is not a directory")
        self._state(self.root, entry)

    def _put(self, directory: Node, name: bytes, entry: TarEntry) -> None:
        children = directory_children(directory)
        old = children.get(name)
        if old is not None and entry.kind is EntryKind.DIRECTORY and old.node.children is not None:
            old.layer = self._layer
            self._state(old.node, entry)
            return
        node = self._new_node(_TYPES[entry.kind])
        self._place(children, name, node)
        self._state(node, entry)

    def _state(self, node: Node, entry: TarEntry) -> None:
        """Give a node the attributes of an entry."""
        xattr_bytes = _check_xattrs(entry.xattrs) if entry.xattrs else 0
        if len(entry.target) > _MAX_TARGET_BYTES:
            raise LayerError("the target of a symbolic link is too long")
        self._spend(xattr_bytes + len(entry.target))
        if entry.chunks is not None:
            self._spend_on_sparse(entry.chunks.cost_bytes)
        node.mode = _mode(entry.kind, entry.mode)
        node.uid = entry.uid
        node.gid = entry.gid
        node.mtime_s = entry.mtime_s
        node.mtime_ns = entry.mtime_ns
        node.xattrs = entry.xattrs
        node.size = entry.size
        node.address = self._base + entry.data_offset
        node.chunks = entry.chunks
        node.target = entry.target
        node.device = entry.device
        node.stated_in = self._layer

    def _link(self, directory: Node, name: bytes, entry: TarEntry) -> None:
        parts = split_path(entry.target)
        if not parts:
            raise LayerError("a hard link points to the root")
        children = directory_children(directory)
        # What the link replaces goes first, as when it is unpacked; it cannot be the target then.
        if children.pop(name, None) is not None:
            self._last_parent = None
        target = self._existing(parts)
        if target is None or target.children is not None:
            raise LayerError("a hard link points to nothing, or to a directory")
        self._place(children, name, Child(target, self._layer))

    def _place(self, children: dict[bytes, DirectoryEntry], name: bytes, entry: DirectoryEntry) -> None:
        old = children.get(name)
        if old is None:
            self._spend(len(name))
        else:
            # The remembered directory may have been reached through what goes now.
            self._last_parent = None
        children[name] = entry

    def _hide(self, parts: list[bytes], whiteout: bytes) -> None:
        """Apply a whiteout; it makes no directory, and does not count as going through one."""
        self._last_parent = None
        name = whiteout.removeprefix(WHITEOUT)
        if name in NO_NAMES:
            raise LayerError("a whiteout names nothing")
        directory = self._at(self._resolve(parts))
        if directory is None or directory.children is None:
            return
        if whiteout == OPAQUE:
            self._prune(directory)
            return
        if whiteout.startswith(META):
            return
        children = directory.children
        child = children.get(name)
        if child is None:
            return
        if child.layer != self._layer:
            del children[name]
        elif child.node.children is not None:
            self._uncover(child.node)

    def _prune(self, directory: Node) -> None:
        """Remove what lower layers put below a directory, at any depth; once is enough for a layer."""
        pending = [directory]
        while pending:
            node = pending.pop()
            if node.pruned_in == self._layer:
                continue
            node.pruned_in = self._layer
            children = directory_children(node)
            for name, child in list(children.items()):
                if child.layer != self._layer:
                    del children[name]
                elif child.node.children is not None:
                    self._forget_lower_attributes(child.node)
                    pending.append(child.node)

    def _uncover(self, directory: Node) -> None:
        """Turn a directory that this layer went through into one that this layer made."""
        self._forget_lower_attributes(directory)
        self._prune(directory)

    def _forget_lower_attributes(self, directory: Node) -> None:
        if directory.stated_in != self._layer:
            directory.forget_attributes()

    def _directory(self, parts: list[bytes]) -> Node:
        """Return the directory of a path; make what is missing, as unpacking would."""
        resolved = self._resolve(parts)
        node = self.root
        for part in resolved:
            node = self._enter(node, part)
        return node

    def _enter(self, node: Node, name: bytes) -> Node:
        children = directory_children(node)
        child = children.get(name)
        if child is None or child.node.children is None:
            if child is not None and child.layer == self._layer:
                raise LayerError("a path leads through a file")
            made = self._new_node(IMPLICIT_DIRECTORY_MODE)
            self._place(children, name, made)
            return made
        child.layer = self._layer
        return child.node

    def _existing(self, parts: list[bytes]) -> Node | None:
        """Return what a path names, in this layer or a lower one; the last part is not followed."""
        return self._at([*self._resolve(parts[:-1]), parts[-1]])

    def _at(self, resolved: list[bytes]) -> Node | None:
        node: Node | None = self.root
        for part in resolved:
            child = _child(node, part)
            node = child.node if child is not None else None
        return node

    def _resolve(self, parts: list[bytes]) -> list[bytes]:
        """Replace the symbolic links of this layer by where they point to; the root contains all of it."""
        done: list[bytes] = []
        nodes: list[Node | None] = [self.root]
        pending = parts[::-1]
        links_left = _MAX_SYMLINKS
        while pending:
            part = pending.pop()
            if part == b"..":
                if done:
                    done.pop()
                    nodes.pop()
                continue
            if len(part) > MAX_NAME_BYTES:
                raise LayerError("a name is too long")
            child = _child(nodes[-1], part)
            if child is not None and child.layer == self._layer and stat.S_ISLNK(child.node.mode):
                if links_left == 0:
                    raise LayerError("a path has too many symbolic links")
                links_left -= 1
                target = child.node.target
                if target.startswith(b"/"):
                    done, nodes = [], [self.root]
                steps = target.split(b"/")
                self._spend_on_links(len(steps))
                pending += [step for step in reversed(steps) if step not in (b"", b".")]
            else:
                done.append(part)
                nodes.append(child.node if child is not None else None)
            if len(done) + len(pending) > self._max_depth:
                raise LayerError("a path is too deep")
        return done

    def _new_node(self, mode: int) -> Node:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise TreeTooLargeError("the image has too many files")
        node = Node(mode)
        node.layer = self._layer
        return node

    def _spend(self, text_bytes: int) -> None:
        self._text_left -= text_bytes
        if self._text_left < 0:
            raise TreeTooLargeError("the image's names and attributes are too long together")

    def _spend_on_links(self, steps: int) -> None:
        self._link_steps_left -= steps
        if self._link_steps_left < 0:
            raise TreeTooLargeError("the image's paths lead through too many symbolic links together")

    def _spend_on_sparse(self, stored_bytes: int) -> None:
        self._sparse_left -= stored_bytes
        if self._sparse_left < 0:
            raise TreeTooLargeError("the image's sparse files are too many and too scattered together")


@cache
def _mode(kind: EntryKind, permissions: int) -> int:
    """Return type and permissions as one number, the same object for all files that have the same."""
    return _LINK_MODE if kind is EntryKind.SYMBOLIC_LINK else _TYPES[kind] | permissions


def _check_xattrs(xattrs: Mapping[bytes, bytes]) -> int:
    """Refuse what a file cannot have; return how much there is."""
    if any(name.startswith(_OVERLAY_XATTR) for name in xattrs):
        raise LayerError("an extended attribute belongs to the overlay file system")
    total = sum(len(name) + len(value) + _XATTR_OVERHEAD_BYTES for name, value in xattrs.items())
    if total > _MAX_XATTRS_BYTES:
        raise LayerError("a file has too many extended attributes")
    return total


def _child(node: Node | None, name: bytes) -> DirectoryEntry | None:
    return node.children.get(name) if node is not None and node.children is not None else None
