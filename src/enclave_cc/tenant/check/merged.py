"""
The merged file tree of an image, with the files' content at hand.

Layers are opened by the code that opens them inside an enclave and merged by the code that seals them; the
plain tars lie one after the other in a file without a name.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.formats.sealed.tree import Tree
from enclave_cc.formats.tar.scanner import TarScanner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from enclave_cc.formats.sealed.node import Node

# As the kernel has it.
_MAX_SYMLINKS: Final = 40


class MergedTree:
    """Layers are added from the lowest upwards; then paths are looked up as the kernel would."""

    def __init__(self) -> None:
        self._tree = Tree()
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  # closed by ``__exit__``
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add_layer(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Merge one layer's plain tar; raise ``TarError`` or ``LayerError`` if it is none."""
        self._tree.begin_layer(self.size)
        scanner = TarScanner()
        for chunk in chunks:
            for entry in scanner.feed(chunk):
                self._tree.add(entry)
            self._spool.write(chunk)
            self.size += len(chunk)
        scanner.close()
        self._spool.flush()

    def find(self, path: str) -> Node | None:
        """Return what an absolute path leads to, symbolic links followed; None if it leads nowhere."""
        walked: list[Node] = [self._tree.root]
        pending = _steps(path)
        links_left = _MAX_SYMLINKS
        while pending:
            step = pending.pop()
            if step == b"..":
                walked = walked[:-1] or walked
                continue
            child = (walked[-1].children or {}).get(step)
            if child is None:
                return None
            if not stat.S_ISLNK(child.node.mode):
                walked.append(child.node)
                continue
            links_left -= 1
            if links_left < 0:
                return None
            if child.node.target.startswith(b"/"):
                walked = walked[:1]
            pending += _steps(os.fsdecode(child.node.target))
        return walked[-1]

    def read(self, node: Node, max_bytes: int) -> bytes:
        """Return the beginning of a file; of a sparse one, which no program is, nothing."""
        if not stat.S_ISREG(node.mode) or node.chunks is not None:
            return b""
        return os.pread(self._spool.fileno(), min(node.size, max_bytes), node.address)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield every path and what is there."""
        # Paths are joined when their turn comes: those of a million files in a deep directory would be large.
        pending = [("/", b"", self._tree.root)]
        while pending:
            parent, step, node = pending.pop()
            path = posixpath.join(parent, os.fsdecode(step)) if step else parent
            yield path, node
            pending += [(path, name, child.node) for name, child in (node.children or {}).items()]


def _steps(path: str) -> list[bytes]:
    """Cut a path into steps, the first one last."""
    return [step for step in reversed(os.fsencode(path).split(b"/")) if step not in {b"", b"."}]
