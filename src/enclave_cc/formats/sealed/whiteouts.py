"""
What a whiteout takes away: all that lower layers put there, and nothing of its own layer.

Whatever the order of the entries in the archive, the result is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.formats.sealed.node import directory_children

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.node import Node


def hide(directory: Node, name: bytes, layer: int) -> None:
    """Remove what lower layers put at a name of a directory."""
    children = directory_children(directory)
    child = children.get(name)
    if child is None:
        return
    if child.layer != layer:
        del children[name]
    elif child.node.children is not None:
        # A directory that this layer went through becomes one that this layer made.
        _forget_lower_attributes(child.node, layer)
        hide_all(child.node, layer)


def hide_all(directory: Node, layer: int) -> None:
    """Remove what lower layers put below a directory, at any depth; once is enough for a layer."""
    pending = [directory]
    while pending:
        node = pending.pop()
        if node.pruned_in == layer:
            continue
        node.pruned_in = layer
        children = directory_children(node)
        for name, child in list(children.items()):
            if child.layer != layer:
                del children[name]
            elif child.node.children is not None:
                _forget_lower_attributes(child.node, layer)
                pending.append(child.node)


def _forget_lower_attributes(directory: Node, layer: int) -> None:
    if directory.stated_in != layer:
        directory.forget_attributes()
