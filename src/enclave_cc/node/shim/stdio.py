"""
Standard streams of a process without a terminal: the container writes into containerd's pipes directly.

The shim holds each pipe open for reading and writing as well, so that a restart of containerd
neither breaks a pipe nor ends a stream; no byte of a workload passes through the shim.
"""

from __future__ import annotations

import os

from enclave_cc.node.shim.descriptors import Descriptors
from enclave_cc.node.shim.failures import unimplemented, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_FILE: Final = "file://"
_LOG_MODE: Final = 0o640


class Streams:
    """The paths that containerd named for one process."""

    def __init__(self, stdin: str, stdout: str, stderr: str, *, terminal: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
        self._holders = Descriptors()
        self._stdin_holder = Descriptors()

    def open(self, child: Descriptors) -> list[int]:
        """Open what the process gets as 0, 1 and 2 into ``child``, and the shim's own holders."""
        try:
            return [self._input(child), self._output(self.stdout, child), self._output(self.stderr, child)]
        except OSError as error:
            self.close()
            raise unknown(f"cannot open a stream of the process: {error.strerror}") from error

    def hold_stdin(self) -> None:
        """Keep the input pipe from ending until ``close_stdin``."""
        self._stdin_holder.open(self.stdin, os.O_RDWR)

    def close_stdin(self) -> None:
        """Let the input end once its other writers are gone."""
        self._stdin_holder.close()

    def close(self) -> None:
        """Let go of every pipe."""
        self._holders.close()
        self.close_stdin()

    def _input(self, child: Descriptors) -> int:
        if not self.stdin:
            return child.open("/dev/null", os.O_RDONLY)
        self.hold_stdin()
        return child.open(self.stdin, os.O_RDONLY)

    def _output(self, path: str, child: Descriptors) -> int:
        if not path:
            return child.open("/dev/null", os.O_WRONLY)
        if path.startswith(_FILE):
            return child.open(path.removeprefix(_FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, _LOG_MODE)
        if "://" in path:
            raise unimplemented("only pipes and file:// are served as output")
        self._holders.open(path, os.O_RDWR)
        return child.open(path, os.O_WRONLY)
