"""The calling side of ttrpc on the reactor: one connection, many calls, each with its own time limit."""

from __future__ import annotations

from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.formats.ttrpc import (
    ERROR_INFO,
    ERROR_INFO_URL,
    INTERNAL,
    MAX_DATA_BYTES,
    REQUEST,
    RESOURCE_EXHAUSTED,
    RESPONSE,
    TYPE_REQUEST,
    TYPE_RESPONSE,
    UNAVAILABLE,
)
from enclave_cc.node.shim.connection import Connection
from enclave_cc.node.shim.failures import Failure
from enclave_cc.node.shim.reactor import within
from enclave_cc.node.shim.sockets import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from enclave_cc.formats.messages.service import Service
    from enclave_cc.formats.ttrpc import Frame
    from enclave_cc.node.shim.reactor import Future, Reactor

_NANO: Final = 1_000_000_000


class RpcClient:
    """Calls methods of one peer; every failure is a ``Failure``, a lost connection ``UNAVAILABLE``."""

    def __init__(self, reactor: Reactor, path: str) -> None:
        self._reactor = reactor
        self._waiting: dict[int, Future] = {}
        self._stream_id = -1
        self._connection = Connection(reactor, connect(path), self._frame, self._closed)

    @property
    def open(self) -> bool:
        """Tell whether calls can still be made."""
        return self._connection.open

    def close(self) -> None:
        """Hang up; calls under way fail."""
        self._connection.close()

    async def call(
        self, service: Service, method: str, request: dict[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        """Make one unary call and return the decoded response."""
        schemas = service.methods[method]
        payload = await within(
            self._reactor,
            timeout_s,
            self._send(service.name, method, encode(schemas.request, request), timeout_s),
        )
        try:
            return decode(schemas.response, payload)
        except ProtobufError as error:
            raise Failure(INTERNAL, f"{method}: the response is malformed") from error

    def _send(self, service: str, method: str, payload: bytes, timeout_s: float) -> Future:
        future = self._reactor.future()
        if not self.open:
            future.fail(Failure(UNAVAILABLE, "the connection is closed"))
            return future
        envelope = {
            "service": service,
            "method": method,
            "payload": payload,
            "timeout_nano": int(timeout_s * _NANO),
        }
        data = encode(REQUEST, envelope)
        if len(data) > MAX_DATA_BYTES:
            future.fail(Failure(RESOURCE_EXHAUSTED, "the request is too large"))
            return future
        self._stream_id += 2
        self._waiting[self._stream_id] = future
        self._connection.send(self._stream_id, TYPE_REQUEST, data)
        return future

    def _frame(self, frame: Frame) -> None:
        future = self._waiting.pop(frame.stream_id, None)
        if future is None:
            return
        if frame.type != TYPE_RESPONSE or frame.oversize:
            future.fail(Failure(INTERNAL, "the peer does not speak this protocol"))
            return
        try:
            response = decode(RESPONSE, frame.data)
            status = response["status"]
            if status is not None and status["code"]:
                future.fail(Failure(status["code"], status["message"], _info(status["details"])))
            else:
                future.resolve(response["payload"])
        except ProtobufError:
            future.fail(Failure(INTERNAL, "the peer's response is malformed"))

    def _closed(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.fail(Failure(UNAVAILABLE, "the connection was closed"))


def _info(details: list[dict[str, Any]]) -> dict[str, str] | None:
    for detail in details:
        if detail["type_url"] == ERROR_INFO_URL:
            return decode(ERROR_INFO, detail["value"])
    return None
