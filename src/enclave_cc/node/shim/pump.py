"""Copies one descriptor to another on the reactor, holding at most one buffer, never blocking the pod."""

from __future__ import annotations

import os

from enclave_cc.node.shim.reactor import READABLE, WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from enclave_cc.node.shim.reactor import Future, Reactor

_BUFFER_BYTES: Final = 1 << 15


class Pump:
    """Owns both descriptors, which must be non-blocking; ``ended`` resolves when they are closed."""

    def __init__(self, reactor: Reactor, source: int, write: Callable[[bytes], int], sink: int) -> None:
        self.ended: Future = reactor.future()
        self._reactor = reactor
        self._source = source
        self._write = write
        self._sink = sink
        self._pending = b""
        reactor.watch(source, READABLE, self._readable)

    def close(self) -> None:
        """Stop; what was read and not yet written is lost."""
        if self.ended.done:
            return
        for descriptor in (self._source, self._sink):
            self._reactor.forget(descriptor)
            os.close(descriptor)
        self.ended.resolve()

    def _readable(self, _events: int) -> None:
        try:
            self._pending = os.read(self._source, _BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # A terminal without processes answers EIO.
            self._pending = b""
        if not self._pending:
            self.close()
            return
        self._drain()
        if self._pending and not self.ended.done:
            self._reactor.forget(self._source)
            self._reactor.watch(self._sink, WRITABLE, self._writable)

    def _writable(self, _events: int) -> None:
        self._drain()
        if not self._pending and not self.ended.done:
            self._reactor.forget(self._sink)
            self._reactor.watch(self._source, READABLE, self._readable)

    def _drain(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[self._write(self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()


def into(sink: int) -> Callable[[bytes], int]:
    """Write to a descriptor."""
    return lambda data: os.write(sink, data)
