"""
A ttrpc server on a Unix socket: a thread per connection, a worker thread per call.

Whatever a client sends, the answer is a status and the connection stays usable; only frames
that cannot be delimited end it. Handlers raise the errors of ``core``; anything else is our own
fault and is answered as ``internal`` without its text.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from enclave_cc.core.errors import EnclaveCcError, InternalError, Stage
from enclave_cc.formats import ttrpc
from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.transport.status import status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.messages.service import Method, Service

_LOG: Final = logging.getLogger(__name__)
_RECEIVE_BYTES: Final = 65536
_UCRED: Final = struct.Struct("iII")
# Calls under way on all connections together; more wait in the pool's queue.
_WORKERS: Final = 32
# Calls of one connection that may be under way or queued; a client that sends more is told so.
_MAX_CALLS_PER_CONNECTION: Final = 64
# Workers are shared; a client that does not take its answers loses its connection.
_SEND_TIMEOUT_S: Final = 10
_TIMEVAL: Final = struct.Struct("ll")


@dataclass(slots=True)
class CallContext:
    """Who calls, as the kernel says, and where to be told that the connection ended."""

    peer_pid: int
    peer_uid: int
    connection: int
    socket: socket.socket
    _callbacks: list[Callable[[], None]] | None = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back when the connection ends; at once if it ended while the call was waiting its turn."""
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.append(callback)
                return
        callback()

    def close(self) -> None:
        """Tell everybody who asked, once."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()


class TtrpcServer:
    """Serves the services that were added, from ``start`` to ``stop``."""

    def __init__(self, path: str, *, mode: int = 0o600, max_connections: int = 64) -> None:
        self._path = path
        self._mode = mode
        self._slots = threading.BoundedSemaphore(max_connections)
        self._methods: dict[tuple[str, str], tuple[Method, Callable[..., dict[str, Any]]]] = {}
        self._connections: set[_Connection] = set()
        self._numbers = itertools.count(1)
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="ttrpc-call")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def add(
        self, service: Service, handlers: dict[str, Callable[[dict[str, Any], CallContext], dict[str, Any]]]
    ) -> None:
        """Offer a service; every method needs its handler."""
        for name, method in service.methods.items():
            self._methods[(service.name, name)] = (method, handlers[name])

    def start(self) -> None:
        """Bind the socket (an old one of the same name is replaced) and accept in the background."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108  # a socket path, and this module keeps paths as texts
        before = os.umask(0o777 & ~self._mode)
        try:
            self._listener.bind(self._path)
        finally:
            os.umask(before)
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="ttrpc-accept", daemon=True).start()

    def stop(self) -> None:
        """Stop accepting, hang up on everybody, remove the socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108  # as above

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                client.close()
                continue
            try:
                connection = _Connection(self, client, next(self._numbers))
            except OSError:
                self._slots.release()
                client.close()
                continue
            self._connections.add(connection)
            threading.Thread(target=connection.serve, name="ttrpc-connection", daemon=True).start()

    def forget(self, connection: _Connection) -> None:
        """Release the slot of a connection that ended."""
        self._connections.discard(connection)
        self._slots.release()

    def submit(self, work: Callable[[], None]) -> None:
        """Run a call on the pool; after ``stop`` it is dropped."""
        with contextlib.suppress(RuntimeError):
            self._pool.submit(work)

    def answer(self, data: bytes, context: CallContext) -> dict[str, Any]:
        """Decode a request, call its handler, and return the response envelope."""
        try:
            request = decode(ttrpc.REQUEST, data)
        except ProtobufError:
            return _failed(ttrpc.INVALID_ARGUMENT, "the request envelope is malformed")
        found = self._methods.get((request["service"], request["method"]))
        if found is None:
            return _failed(ttrpc.UNIMPLEMENTED, "no such service or method")
        method, handler = found
        try:
            message = decode(method.request, request["payload"])
        except ProtobufError:
            return _failed(ttrpc.INVALID_ARGUMENT, "the request message is malformed")
        request_id = message.get("request_id", "")
        try:
            return {"payload": encode(method.response, handler(message, context))}
        except EnclaveCcError as error:
            return {"status": status_of(error, request_id)}
        except Exception:  # noqa: BLE001  # the outermost boundary of a call
            _LOG.exception("call-failed", extra={"method": request["method"]})
            fault = InternalError("internal", "the service failed", stage=Stage.REQUEST)
            return {"status": status_of(fault, request_id)}


class _Connection:
    """One client: reads frames, hands calls to the pool, writes answers in any order."""

    def __init__(self, server: TtrpcServer, client: socket.socket, number: int) -> None:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(credentials)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(_SEND_TIMEOUT_S, 0))
        self._server = server
        self._socket = client
        self._context = CallContext(peer_pid=pid, peer_uid=uid, connection=number, socket=client)
        self._write_lock = threading.Lock()
        self._calls = threading.BoundedSemaphore(_MAX_CALLS_PER_CONNECTION)
        self._last_stream = 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        frames = ttrpc.FrameReader()
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                for frame in frames.feed(data):
                    self._take(frame)
        except OSError:
            pass
        finally:
            self._context.close()
            self._server.forget(self)
            with self._write_lock:
                self._socket.close()

    def _take(self, frame: ttrpc.Frame) -> None:
        if frame.oversize:
            self._send(frame.stream_id, _failed(ttrpc.RESOURCE_EXHAUSTED, "the message is too large"))
        elif frame.type != ttrpc.TYPE_REQUEST:
            self._send(frame.stream_id, _failed(ttrpc.INVALID_ARGUMENT, "only unary requests are served"))
        elif frame.stream_id % 2 == 0 or frame.stream_id <= self._last_stream:
            self._send(frame.stream_id, _failed(ttrpc.INVALID_ARGUMENT, "stream ids are odd and increase"))
        elif not self._calls.acquire(blocking=False):
            self._send(frame.stream_id, _failed(ttrpc.RESOURCE_EXHAUSTED, "too many calls at once"))
        else:
            self._last_stream = frame.stream_id
            self._server.submit(lambda: self._call(frame))

    def _call(self, frame: ttrpc.Frame) -> None:
        try:
            self._send(frame.stream_id, self._server.answer(frame.data, self._context))
        finally:
            self._calls.release()

    def _send(self, stream_id: int, response: dict[str, Any]) -> None:
        data = encode(ttrpc.RESPONSE, response)
        with self._write_lock:
            try:
                self._socket.sendall(ttrpc.pack_frame(stream_id, ttrpc.TYPE_RESPONSE, data))
            except OSError:
                # Gone, or half of a frame is out: nothing can follow it.
                self.close()


def _failed(code: int, message: str) -> dict[str, Any]:
    return {"status": {"code": code, "message": message, "details": []}}
