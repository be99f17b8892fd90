"""A blocking ttrpc client over a Unix socket: one connection, calls one after another."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

from enclave_cc.core.errors import InternalError, Stage, UnavailableError
from enclave_cc.formats import ttrpc
from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.transport.status import error_of

if TYPE_CHECKING:
    from enclave_cc.formats.messages.service import Service

_RECEIVE_BYTES: Final = 65536


class TtrpcClient:
    """
    Calls services behind a Unix socket.

    Errors of the peer come back as the same class, code and stage that it raised; a peer that is
    not there, hangs up or is slower than the deadline raises ``UnavailableError``.
    """

    def __init__(self, path: str, timeout_s: float = 10) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._frames = ttrpc.FrameReader()
        self._stream_id = -1
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise self._unavailable("a peer does not listen") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(
        self, service: Service, method: str, request: dict[str, Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Make one call and wait for its answer."""
        schema = service.methods[method]
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        self._stream_id += 2
        envelope = {
            "service": service.name,
            "method": method,
            "payload": encode(schema.request, request),
            "timeout_nano": int(limit_s * 1e9),
        }
        response = self._exchange(encode(ttrpc.REQUEST, envelope), deadline)
        if response["status"] and response["status"]["code"]:
            raise error_of(response["status"])
        try:
            return decode(schema.response, response["payload"])
        except ProtobufError as error:
            raise self._broken("an answer is malformed") from error

    def _exchange(self, data: bytes, deadline: float) -> dict[str, Any]:
        if len(data) > ttrpc.MAX_DATA_BYTES:
            raise self._broken("a request is too large")
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(ttrpc.pack_frame(self._stream_id, ttrpc.TYPE_REQUEST, data))
            while True:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                received = self._socket.recv(_RECEIVE_BYTES)
                if not received:
                    raise self._unavailable("a peer hung up")
                for frame in self._frames.feed(received):
                    # An answer to a call that was given up earlier is dropped.
                    if frame.stream_id == self._stream_id and frame.type == ttrpc.TYPE_RESPONSE:
                        return decode(ttrpc.RESPONSE, frame.data)
        except TimeoutError as error:
            raise self._unavailable("a peer did not answer in time", code="deadline-exceeded") from error
        except OSError as error:
            raise self._unavailable("a peer hung up") from error
        except ProtobufError as error:
            raise self._broken("an answer is malformed") from error

    def _unavailable(self, summary: str, code: str = "unavailable") -> UnavailableError:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        return UnavailableError(code, summary, stage=Stage.REQUEST, detail=self._path)

    def _broken(self, summary: str) -> InternalError:
        return InternalError("internal", summary, stage=Stage.REQUEST, detail=self._path)
