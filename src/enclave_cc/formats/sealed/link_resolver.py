"""
Where a path of a layer leads: through the symbolic links that this layer made, and never out of the root.

A link from a lower layer is not followed: unpacking layers apart and stacking them would not either.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sealed.layer_path import MAX_NAME_BYTES, LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enclave_cc.formats.sealed.node import DirectoryEntry, Node
    from enclave_cc.formats.sealed.tree_budget import TreeBudget

# Deeper paths cannot be opened by their name (PATH_MAX is 4096).
MAX_DEPTH: Final = 2048
_MAX_SYMLINKS: Final = 40


class LinkResolver:
    """Looks paths up in one tree, while it grows."""

    def __init__(self, root: Node, budget: TreeBudget, *, max_depth: int = MAX_DEPTH) -> None:
        self._root = root
        self._budget = budget
        self._max_depth = max_depth

    def resolve(self, parts: Sequence[bytes], layer: int) -> list[bytes]:
        """Replace the symbolic links of ``layer`` by where they point to; raise ``LayerError``."""
        done: list[bytes] = []
        nodes: list[Node | None] = [self._root]
        pending = list(parts[::-1])
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
            if child is not None and child.layer == layer and stat.S_ISLNK(child.node.mode):
                if links_left == 0:
                    raise LayerError("a path has too many symbolic links")
                links_left -= 1
                if child.node.target.startswith(b"/"):
                    done, nodes = [], [self._root]
                pending += self._steps(child.node.target)
            else:
                done.append(part)
                nodes.append(child.node if child is not None else None)
            if len(done) + len(pending) > self._max_depth:
                raise LayerError("a path is too deep")
        return done

    def at(self, resolved: Iterable[bytes]) -> Node | None:
        """Return what is at a path without links."""
        node: Node | None = self._root
        for part in resolved:
            child = _child(node, part)
            node = child.node if child is not None else None
        return node

    def existing(self, parts: Sequence[bytes], layer: int) -> Node | None:
        """Return what a path names, in this layer or a lower one; the last part is not followed."""
        return self.at([*self.resolve(parts[:-1], layer), parts[-1]])

    def _steps(self, target: bytes) -> list[bytes]:
        """Return the names of a link's target, the first one last."""
        steps = target.split(b"/")
        self._budget.spend_link_steps(len(steps))
        return [step for step in reversed(steps) if step not in (b"", b".")]


def _child(node: Node | None, name: bytes) -> DirectoryEntry | None:
    return node.children.get(name) if node is not None and node.children is not None else None
