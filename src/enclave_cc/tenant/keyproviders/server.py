"""
The gRPC face of our key provider: on a loopback address or a private Unix socket, and nowhere else.

The protocol does not say who calls. Whoever reaches a loopback port may wrap and unwrap with the keys that
are served; on a machine with several users, a Unix socket lets only its owner in.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, UnavailableError
from enclave_cc.formats.ocicrypt.keyprovider import KEY_PROVIDER_SERVICE, MAX_DOCUMENT_BYTES
from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.tenant.keyproviders.failures import misconfigured
from enclave_cc.tenant.keyproviders.grpc_client import plain_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.tenant.keyproviders.service import KeyProvider

_UNIX: Final = "unix:"
_WORKERS: Final = 4
_MAX_CALLS: Final = 32
_STOP_GRACE_S: Final = 2.0
_STATUS: Final = (
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
)


class KeyProviderServer:
    """Serves one provider; ``report`` gets a line for each call, without documents or keys."""

    def __init__(self, provider: KeyProvider, listen: str, report: Callable[[str], None]) -> None:
        self._provider = provider
        self._listen = plain_target(listen, allow_network=False)
        self._report = report
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="keyprovider"),
            options=[
                ("grpc.max_receive_message_length", 2 * MAX_DOCUMENT_BYTES),
                # Somebody else's server on the same port shall be noticed, not joined.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._answer, name))
            for name in KEY_PROVIDER_SERVICE.methods
        }
        handler = grpc.method_handlers_generic_handler(KEY_PROVIDER_SERVICE.name, handlers)
        self._server.add_generic_rpc_handlers((handler,))

    def start(self) -> str:
        """Bind and serve in the background; return the address. Raise ``InvalidInputError`` otherwise."""
        try:
            with _private_socket(self._listen):
                port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise misconfigured(f"{self._listen}: cannot be listened on") from error
        self._server.start()
        if self._listen.startswith(_UNIX):
            return self._listen
        return f"{self._listen.rpartition(':')[0]}:{port}"

    def stop(self) -> None:
        """Let calls end for a moment, then stop."""
        self._server.stop(_STOP_GRACE_S).wait()
        if self._listen.startswith(_UNIX):
            _socket_path(self._listen).unlink(missing_ok=True)

    def _answer(self, method: str, data: bytes, context: grpc.ServicerContext) -> bytes:
        messages = KEY_PROVIDER_SERVICE.methods[method]
        try:
            request = decode(messages.request, data)
            answer = self._provider.answer(method, request["document"])
        except ProtobufError as error:
            self._report(f"{method} refused: not a message of the protocol")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except EnclaveCcError as error:
            text = f"{error.summary}: {error.detail} [code={error.code}]"
            self._report(f"{method} refused: {text}")
            context.abort(_status(error), text)
        except Exception as error:  # noqa: BLE001 - a call's outermost boundary
            # Its text could quote what was being wrapped.
            self._report(f"{method} failed: {type(error).__name__}")
            context.abort(grpc.StatusCode.INTERNAL, "internal error")
        self._report(f"{method} done with {answer.key_id}")
        return encode(messages.response, {"document": answer.document})


def _status(error: EnclaveCcError) -> grpc.StatusCode:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL


@contextmanager
def _private_socket(address: str) -> Iterator[None]:
    """Make a Unix socket that only its owner may open, in place of one that an earlier server left."""
    if not address.startswith(_UNIX):
        yield
        return
    path = _socket_path(address)
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise misconfigured(f"{path}: is there and is not a socket")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _socket_path(address: str) -> Path:
    return Path(address.removeprefix(_UNIX).removeprefix("//"))
