"""File descriptors of processes: opened close-on-exec, closed together, never twice."""

from __future__ import annotations

import os


class Descriptors:
    """Descriptors that belong to one step; closing is safe at any time."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[int] = []

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open a path and keep the descriptor."""
        return self.keep(os.open(path, flags | os.O_CLOEXEC, mode))

    def keep(self, descriptor: int) -> int:
        """Take over a descriptor."""
        self._open.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Close everything."""
        while self._open:
            os.close(self._open.pop())
