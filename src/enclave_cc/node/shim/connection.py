"""One ttrpc connection on the reactor: bytes in, frames out, and back pressure both ways."""

from __future__ import annotations

from enclave_cc.formats.ttrpc import FrameReader, pack_frame
from enclave_cc.node.shim.reactor import READABLE, WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Final

    from enclave_cc.formats.ttrpc import Frame
    from enclave_cc.node.shim.reactor import Reactor

_READ_BYTES: Final = 1 << 16
# Beyond this a peer that asks but does not read is not read from either; a reply fits in any case.
_BACKLOG_BYTES: Final = 1 << 20


class Connection:
    """Owns a connected socket; ``on_close`` is called once, from either side's end."""

    def __init__(
        self, reactor: Reactor, peer: socket, on_frame: Callable[[Frame], None], on_close: Callable[[], None]
    ) -> None:
        peer.setblocking(False)
        self.open = True
        self._reactor = reactor
        self._socket = peer
        self._descriptor = peer.fileno()
        self._reader = FrameReader()
        self._backlog = bytearray()
        self._on_frame = on_frame
        self._on_close = on_close
        self._interest = READABLE
        reactor.watch(self._descriptor, READABLE, self._ready)

    def send(self, stream_id: int, type_: int, data: bytes, flags: int = 0) -> None:
        """Queue one frame; a closed connection swallows it."""
        if self.open:
            self._backlog += pack_frame(stream_id, type_, data, flags)
            self._flush()

    def close(self) -> None:
        """Close the socket and tell the owner."""
        if self.open:
            self.open = False
            self._reactor.forget(self._descriptor)
            self._socket.close()
            self._on_close()

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if self.open and events & ~WRITABLE:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for frame in self._reader.feed(data):
            if self.open:
                self._on_frame(frame)

    def _flush(self) -> None:
        try:
            while self._backlog:
                sent = self._socket.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._show_interest()

    def _show_interest(self) -> None:
        interest = 0 if len(self._backlog) > _BACKLOG_BYTES else READABLE
        if self._backlog:
            interest |= WRITABLE
        if interest != self._interest:
            self._interest = interest
            self._reactor.rewatch(self._descriptor, interest)
