"""What one tree may cost: every file, name, link on the way and sparse map is counted against a limit."""

from __future__ import annotations

from typing import Final

from enclave_cc.formats.sealed.layer_path import LayerError
from enclave_cc.formats.tar.chunked import MAX_SPARSE_BYTES

# About half a KiB each; the largest public images have a few hundred thousand files.
MAX_NODES: Final = 1_000_000
# Names, targets and attributes of the whole tree, hidden ones included.
MAX_TEXT_BYTES: Final = 256 << 20
# Names in the targets of the links on the way to all entries together. Each takes time, and one entry may ask
# for 40 times 2048. An image that has every file behind a link or two stays far below.
MAX_LINK_STEPS: Final = 20_000_000


class TreeTooLargeError(LayerError):
    """The tree has more files or longer names than we hold in memory."""


class TreeBudget:
    """What is left of each limit; ``spend_*`` raise ``TreeTooLargeError`` when there is no more."""

    def __init__(
        self,
        *,
        max_nodes: int = MAX_NODES,
        max_text_bytes: int = MAX_TEXT_BYTES,
        max_sparse_bytes: int = MAX_SPARSE_BYTES,
        max_link_steps: int = MAX_LINK_STEPS,
    ) -> None:
        self._nodes = max_nodes
        self._text_bytes = max_text_bytes
        self._sparse_bytes = max_sparse_bytes
        self._link_steps = max_link_steps

    def spend_node(self) -> None:
        """Count one more inode."""
        self._nodes -= 1
        if self._nodes < 0:
            raise TreeTooLargeError("the image has too many files")

    def spend_text(self, text_bytes: int) -> None:
        """Count a name, a target or attributes."""
        self._text_bytes -= text_bytes
        if self._text_bytes < 0:
            raise TreeTooLargeError("the image's names and attributes are too long together")

    def spend_link_steps(self, steps: int) -> None:
        """Count the names in the target of a link that a path goes through."""
        self._link_steps -= steps
        if self._link_steps < 0:
            raise TreeTooLargeError("the image's paths lead through too many symbolic links together")

    def spend_sparse(self, stored_bytes: int) -> None:
        """Count the chunk list and the copies of a sparse file."""
        self._sparse_bytes -= stored_bytes
        if self._sparse_bytes < 0:
            raise TreeTooLargeError("the image's sparse files are too many and too scattered together")
