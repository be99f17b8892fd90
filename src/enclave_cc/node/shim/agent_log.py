"""The agent's output in a file that cannot fill the node's disk: two halves, the older one is replaced."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH105

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_HALF_BYTES: Final = 1 << 19


class AgentLog:
    """Writes to ``<path>``, moves it to ``<path>.1`` when it is full."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = 0
        self.descriptor = self._open()

    def write(self, data: bytes) -> int:
        """Append what an agent said; a full disk loses it, and not the agent with it."""
        try:
            if self._written + len(data) > _HALF_BYTES:
                self._turn_over()
            self._written += len(data)
            return os.write(self.descriptor, data)
        except OSError:
            return len(data)

    def _turn_over(self) -> None:
        os.replace(self._path, f"{self._path}.1")
        fresh = self._open()
        os.dup2(fresh, self.descriptor, inheritable=False)
        os.close(fresh)
        self._written = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
