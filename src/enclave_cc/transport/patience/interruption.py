"""
Ending somebody else's wait: the sockets of a client, which another thread may shut down.

A time-out says how long a peer may be silent. It does not help somebody who learns meanwhile that the
answer is not wanted any more.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import urllib3


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
            with contextlib.suppress(OSError):
                # The plain socket's method also where TLS runs over it, whose own would say good-bye first.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def watch(self, manager: urllib3.PoolManager) -> None:
        """Know the sockets of all connections that a manager makes from now on."""
        sockets = self

        class WatchedHttp(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class WatchedHttps(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = WatchedHttp

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = WatchedHttps

        manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
