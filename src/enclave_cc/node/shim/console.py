"""A process's terminal: runc hands the master over on a socket, and the shim copies both ways."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH108

from __future__ import annotations

import fcntl
import os
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from sys import byteorder

from enclave_cc.node.shim.failures import unknown
from enclave_cc.node.shim.pump import Pump, into
from enclave_cc.node.shim.sockets import accept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from enclave_cc.node.shim.reactor import Reactor
    from enclave_cc.node.shim.stdio import Streams

_TIOCSWINSZ: Final = 0x5414
_INT_BYTES: Final = 4
# A background process may keep the terminal open after the main one ended; nobody waits for it longer.
_LAST_OUTPUT_S: Final = 2.0
_MAX_CELLS: Final = 0xFFFF


class ConsoleSocket:
    """The listening socket that is named to runc; use as a context so that no socket file stays behind."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/{os.urandom(16).hex()}.tty"
        self._listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)

    def __enter__(self) -> ConsoleSocket:  # noqa: PYI034 - `Self` needs the typing module at run time on 3.11
        old = os.umask(0o077)
        try:
            self._listener.bind(self.path)
        finally:
            os.umask(old)
        self._listener.listen(1)
        self._listener.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return

    def receive(self) -> int:
        """Take the terminal's master, which runc sent before it ended; raise ``Failure`` when it did not."""
        try:
            peer = accept(self._listener)
            try:
                peer.setblocking(False)
                _, ancillary, _, _ = peer.recvmsg(4096, CMSG_SPACE(_INT_BYTES))
            finally:
                peer.close()
        except OSError as error:
            raise unknown(f"runc sent no terminal: {error.strerror}") from error
        for level, kind, data in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                master = int.from_bytes(data[:_INT_BYTES], byteorder)
                os.set_inheritable(master, False)
                os.set_blocking(master, False)
                return master
        raise unknown("runc sent no terminal")


class Console:
    """The master side of one process's terminal."""

    def __init__(self, reactor: Reactor, master: int, streams: Streams) -> None:
        self._reactor = reactor
        self._master = master
        self._pumps: list[Pump] = []
        self._output: Pump | None = None
        try:
            self._connect(streams)
        except OSError as error:
            # Without a master the terminal hangs up, and what runc started on it ends.
            self.close()
            streams.close()
            raise unknown(f"cannot open a stream of the process: {error.strerror}") from error

    def _connect(self, streams: Streams) -> None:
        if streams.stdout:
            sink = os.open(streams.stdout, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._output = self._pump(self._duplicate(), sink)
        if streams.stdin:
            streams.hold_stdin()
            source = os.open(streams.stdin, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._pump(source, self._duplicate())

    def resize(self, width: int, height: int) -> None:
        """Set the window's size in character cells."""
        size = b"".join(min(cells, _MAX_CELLS).to_bytes(2, byteorder) for cells in (height, width, 0, 0))
        if self._master >= 0:
            fcntl.ioctl(self._master, _TIOCSWINSZ, size)

    async def drain(self) -> None:
        """Wait a moment for the last output, then let go."""
        if self._output is not None:
            self._reactor.later(_LAST_OUTPUT_S, self._output.close)
            await self._output.ended
        self.close()

    def close(self) -> None:
        """Let go of the terminal at once."""
        for pump in self._pumps:
            pump.close()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _duplicate(self) -> int:
        return fcntl.fcntl(self._master, fcntl.F_DUPFD_CLOEXEC, 0)

    def _pump(self, source: int, sink: int) -> Pump:
        try:
            pump = Pump(self._reactor, source, into(sink), sink)
        except OSError:
            # A regular file cannot be waited for.
            os.close(source)
            os.close(sink)
            raise
        self._pumps.append(pump)
        return pump
