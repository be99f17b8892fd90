"""
Ending somebody else's wait: the sockets of a client, which another thread may shut down.

A time-out says how long a peer may be silent. It helps neither against one that says a byte now and
then, nor somebody who learns meanwhile that the answer is not wanted any more.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from enclave_cc.transport.patience.deadline import Deadline, Patience
from enclave_cc.transport.patience.watchdog import cut_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3
    from urllib3.response import HTTPResponse

# For connections without a time-out, which the clients in here do not make.
_LONGEST_HEAD_S: Final = 30.0


class OpenSockets:
    """The connected sockets of one client; safe to use from several threads."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, connected: socket.socket | None) -> None:
        """Remember a socket for as long as somebody uses it."""
        if connected is not None:
            with self._lock:
                self._sockets.add(connected)

    def shut_down(self) -> None:
        """Let every read and write that waits fail now, as if the peer had gone away."""
        with self._lock:
            known = tuple(self._sockets)
        for connected in known:
            _shut_down(connected)

    def watch(self, manager: urllib3.PoolManager) -> None:
        """Know the sockets of all connections that a manager makes from now on."""
        sockets = self

        # Their texts are what a person reads of a failure.
        class WatchedHttp(HTTPConnection):
            def __str__(self) -> str:
                return f"{self.host}:{self.port}"

            def connect(self) -> None:
                with _ended_after(self.timeout, self):
                    super().connect()
                sockets.add(self.sock)

            def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
                with _ended_after(self.timeout, self):
                    return super().getresponse()

        class WatchedHttps(HTTPSConnection):
            def __str__(self) -> str:
                return f"{self.host}:{self.port}"

            def connect(self) -> None:
                with _ended_after(self.timeout, self):
                    super().connect()
                sockets.add(self.sock)

            def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
                with _ended_after(self.timeout, self):
                    return super().getresponse()

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = WatchedHttp

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = WatchedHttps

        manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}


@contextlib.contextmanager
def _ended_after(seconds: object, connection: HTTPConnection) -> Iterator[None]:
    """End a connection's wait for the head of an answer, which a peer may send in any number of bytes."""
    bound_s = float(seconds) if isinstance(seconds, int | float) else _LONGEST_HEAD_S
    late = threading.Event()

    def end() -> None:
        late.set()
        _shut_down(connection.sock)

    with cut_off(Patience(Deadline.after(bound_s)), end):
        yield
    if late.is_set():
        # A header that was cut off in its middle reads like the last one.
        raise TimeoutError("the head of the answer took too long")


def _shut_down(connected: object) -> None:
    # TLS through a proxy that itself speaks TLS is a wrapper around a socket.
    plain = connected if isinstance(connected, socket.socket) else getattr(connected, "socket", None)
    if isinstance(plain, socket.socket):
        with contextlib.suppress(OSError):
            # The plain socket's method also where TLS runs over it, whose own would say good-bye first.
            socket.socket.shutdown(plain, socket.SHUT_RDWR)
