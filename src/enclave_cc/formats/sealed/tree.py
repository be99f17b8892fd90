"""
Merge the layers of an image into one tree (OCI image specification, "Image Layer Filesystem Changeset").

Only metadata is held: a file is an address in the concatenated layers. A whiteout hides what lower
layers put there, never what its own layer brings, and it does not matter which of the two comes
first in the archive. Symbolic links in the middle of a path are followed only if the same layer made
them; one from a lower layer is replaced by a directory, as happens when layers are unpacked apart
and stacked. Nothing leaves the root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.formats.sealed.entry_attributes import FILE_KINDS, give_attributes
from enclave_cc.formats.sealed.layer_path import (
    META,
    NO_NAMES,
    OPAQUE,
    WHITEOUT,
    LayerError,
    PathEscapesError,
    is_plain,
    split_path,
)
from enclave_cc.formats.sealed.link_resolver import MAX_DEPTH, LinkResolver
from enclave_cc.formats.sealed.node import (
    IMPLICIT_DIRECTORY_MODE,
    Child,
    DirectoryEntry,
    Node,
    directory_children,
)
from enclave_cc.formats.sealed.tree_budget import TreeBudget, TreeTooLargeError
from enclave_cc.formats.sealed.whiteouts import hide, hide_all
from enclave_cc.formats.tar.entry import EntryKind

if TYPE_CHECKING:
    from enclave_cc.formats.tar.entry import TarEntry

__all__ = ["LayerError", "PathEscapesError", "Tree", "TreeTooLargeError"]


class Tree:
    """The merged tree; ``begin_layer`` from the lowest layer upwards, then ``add`` its entries in order."""

    def __init__(self, budget: TreeBudget | None = None, *, max_depth: int = MAX_DEPTH) -> None:
        self.root = Node(IMPLICIT_DIRECTORY_MODE)
        self._budget = budget or TreeBudget()
        self._paths = LinkResolver(self.root, self._budget, max_depth=max_depth)
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
        node = self._new_node(FILE_KINDS[entry.kind])
        self._place(children, name, node)
        self._state(node, entry)

    def _state(self, node: Node, entry: TarEntry) -> None:
        give_attributes(node, entry, self._budget, layer=self._layer, base=self._base)

    def _link(self, directory: Node, name: bytes, entry: TarEntry) -> None:
        parts = split_path(entry.target)
        if not parts:
            raise LayerError("a hard link points to the root")
        children = directory_children(directory)
        # What the link replaces goes first, as when it is unpacked; it cannot be the target then.
        if children.pop(name, None) is not None:
            self._last_parent = None
        target = self._paths.existing(parts, self._layer)
        if target is None or target.children is not None:
            raise LayerError("a hard link points to nothing, or to a directory")
        self._place(children, name, Child(target, self._layer))

    def _place(self, children: dict[bytes, DirectoryEntry], name: bytes, entry: DirectoryEntry) -> None:
        old = children.get(name)
        if old is None:
            self._budget.spend_text(len(name))
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
        directory = self._paths.at(self._paths.resolve(parts, self._layer))
        if directory is None or directory.children is None:
            return
        if whiteout == OPAQUE:
            hide_all(directory, self._layer)
        elif not whiteout.startswith(META):
            hide(directory, name, self._layer)

    def _directory(self, parts: list[bytes]) -> Node:
        """Return the directory of a path; make what is missing, as unpacking would."""
        resolved = self._paths.resolve(parts, self._layer)
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

    def _new_node(self, mode: int) -> Node:
        self._budget.spend_node()
        node = Node(mode)
        node.layer = self._layer
        return node
