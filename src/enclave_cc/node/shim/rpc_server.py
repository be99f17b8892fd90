"""
The shim's side of ttrpc: many calls in flight per connection, replies in any order.

Nothing that arrives here ends the shim: a frame that is too large, malformed or out of
sequence gets a status, and the connection stays usable.
"""

from __future__ import annotations

import os
from _socket import SO_PEERCRED, SOL_SOCKET
from struct import Struct

from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.formats.ttrpc import (
    DEADLINE_EXCEEDED,
    ERROR_INFO,
    ERROR_INFO_URL,
    FLAG_REMOTE_OPEN,
    INTERNAL,
    INVALID_ARGUMENT,
    MAX_DATA_BYTES,
    REQUEST,
    RESOURCE_EXHAUSTED,
    RESPONSE,
    TYPE_REQUEST,
    TYPE_RESPONSE,
    UNIMPLEMENTED,
)
from enclave_cc.node.shim.connection import Connection
from enclave_cc.node.shim.failures import CANCELLED, Failure
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.reactor import READABLE, Cancelled, DeadlineExceeded
from enclave_cc.node.shim.sockets import accept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Coroutine
    from typing import Any, Final

    from enclave_cc.formats.messages.service import Method, Service
    from enclave_cc.formats.ttrpc import Frame
    from enclave_cc.node.shim.reactor import Future, Reactor, Task

    Handler = Callable[[dict[str, Any]], Coroutine[Future, None, dict[str, Any] | None]]

# containerd holds one connection per shim and a few calls per container; these bound a peer that misbehaves.
_MAX_CONNECTIONS: Final = 64
_MAX_CALLS: Final = 1024
_CREDENTIALS: Final = Struct("iII")
_NANO: Final = 1e9


class RpcServer:
    """Accepts connections of our own user and dispatches unary calls."""

    def __init__(self, reactor: Reactor, listener: socket, cancellable: frozenset[str]) -> None:
        self.calls = 0
        self._reactor = reactor
        self._listener = listener
        self._cancellable = cancellable
        self._methods: dict[tuple[str, str], tuple[Method, Handler]] = {}
        self._connections: set[_Calls] = set()
        listener.setblocking(False)
        reactor.watch(listener.fileno(), READABLE, self._accept)

    def add(self, service: Service, handlers: dict[str, Handler]) -> None:
        """Serve a service; each of its methods needs a handler."""
        for name, method in service.methods.items():
            self._methods[service.name, name] = (method, handlers[name])

    def _accept(self, _events: int) -> None:
        try:
            peer = accept(self._listener)
        except OSError:
            return
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
        if uid != os.geteuid() or len(self._connections) >= _MAX_CONNECTIONS:
            log("connection-refused", uid=uid, connections=len(self._connections))
            peer.close()
            return
        calls = _Calls(self, peer, self._reactor)
        self._connections.add(calls)

    def gone(self, calls: _Calls) -> None:
        """Forget a connection."""
        self._connections.discard(calls)

    def start(self, request: dict[str, Any], answer: Callable[[bytes], None]) -> None:
        """Run one call; ``answer`` takes the encoded response, exactly once."""
        found = self._methods.get((request["service"], request["method"]))
        if found is None:
            raise Failure(UNIMPLEMENTED, f"/{request['service'][:200]}/{request['method'][:200]}")
        if self.calls >= _MAX_CALLS:
            raise Failure(RESOURCE_EXHAUSTED, "too many calls in flight")
        method, handler = found
        try:
            arguments = decode(method.request, request["payload"])
        except ProtobufError as error:
            raise Failure(INVALID_ARGUMENT, f"request is not a {method.request.name}: {error}") from error
        self.calls += 1
        task = self._reactor.spawn(handler(arguments))
        _Call(task, method, answer, self).limit(
            request["timeout_nano"] / _NANO, self._reactor, cancels=request["method"] in self._cancellable
        )


class _Calls:
    """One connection and the order of its stream ids."""

    def __init__(self, server: RpcServer, peer: socket, reactor: Reactor) -> None:
        self._server = server
        self._last_stream_id = 0
        self._connection = Connection(reactor, peer, self._frame, lambda: server.gone(self))

    def _frame(self, frame: Frame) -> None:
        stream_id = frame.stream_id

        def answer(response: bytes) -> None:
            self._connection.send(stream_id, TYPE_RESPONSE, response)

        try:
            self._check(frame)
            self._server.start(decode(REQUEST, frame.data), answer)
        except ProtobufError as error:
            answer(_status(Failure(INVALID_ARGUMENT, f"request envelope: {error}")))
        except Failure as failure:
            answer(_status(failure))

    def _check(self, frame: Frame) -> None:
        if frame.type != TYPE_REQUEST or frame.flags & FLAG_REMOTE_OPEN:
            raise Failure(INVALID_ARGUMENT, "only unary requests are served")
        if frame.stream_id % 2 != 1:
            raise Failure(INVALID_ARGUMENT, "StreamID must be odd for client initiated streams")
        if frame.stream_id <= self._last_stream_id:
            raise Failure(INVALID_ARGUMENT, "StreamID cannot be re-used and must increment")
        self._last_stream_id = frame.stream_id
        if frame.oversize:
            raise Failure(RESOURCE_EXHAUSTED, f"message is larger than {MAX_DATA_BYTES} bytes")


class _Call:
    """One call in flight; the first of outcome and deadline answers."""

    def __init__(
        self, task: Task, method: Method, answer: Callable[[bytes], None], server: RpcServer
    ) -> None:
        self._task = task
        self._method = method
        self._answer: Callable[[bytes], None] | None = answer
        self._server = server
        task.then(self._finish)

    def limit(self, seconds: float, reactor: Reactor, *, cancels: bool) -> None:
        """Honour the caller's deadline: cancel what may be cancelled, else answer and let it run."""
        if seconds > 0:
            reactor.later(seconds, self._cancel if cancels else self._give_up)

    def _cancel(self) -> None:
        if not self._task.done:
            self._task.cancel(DeadlineExceeded())

    def _give_up(self) -> None:
        self._reply(_status(Failure(DEADLINE_EXCEEDED, "deadline exceeded")))

    def _reply(self, response: bytes) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(response)

    def _finish(self, _: Future) -> None:
        self._server.calls -= 1
        try:
            response = encode(RESPONSE, {"payload": encode(self._method.response, self._task.result() or {})})
        except Failure as failure:
            self._reply(_status(failure))
        except DeadlineExceeded:
            self._reply(_status(Failure(DEADLINE_EXCEEDED, "deadline exceeded")))
        except Cancelled:
            self._reply(_status(Failure(CANCELLED, "cancelled")))
        except Exception as error:  # noqa: BLE001 - a call's outermost boundary
            log("call-failed", method=self._method.request.name, error=f"{type(error).__name__}: {error}")
            self._reply(_status(Failure(INTERNAL, f"{type(error).__name__}: {error}")))
        else:
            self._reply(response)


def _status(failure: Failure) -> bytes:
    status: dict[str, Any] = {"code": failure.status, "message": failure.message}
    if failure.info is not None:
        status["details"] = [{"type_url": ERROR_INFO_URL, "value": encode(ERROR_INFO, failure.info)}]
    return encode(RESPONSE, {"status": status})
