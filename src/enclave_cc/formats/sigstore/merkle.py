"""Merkle trees of transparency logs (RFC 6962, 2.1): from a leaf along its path to the root."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# A path through a tree of 2^63 leaves.
MAX_PATH: Final = 63
HASH_BYTES: Final = 32


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry, apart from inner nodes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_path(leaf: bytes, *, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """
    Compute the root that a path leads to (RFC 9162, 2.1.3.2); raise ``ValueError`` for no possible path.

    The caller compares the result with a root that the log signed.
    """
    if not 0 <= index < size or len(path) > MAX_PATH or any(len(step) != HASH_BYTES for step in path):
        raise ValueError("an inclusion proof of impossible shape")
    position, last, node = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise ValueError("an inclusion proof that is too long")
        if position & 1 or position == last:
            node = node_hash(step, node)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, step)
        position, last = position >> 1, last >> 1
    if last:
        raise ValueError("an inclusion proof that is too short")
    return node
