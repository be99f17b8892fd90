"""
A key provider that is a gRPC server.

Without TLS it is spoken to only where nobody listens in between: on a loopback address or a Unix socket.
The document holds a layer's key.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from enclave_cc.formats.ocicrypt.keyprovider import KEY_PROVIDER_SERVICE, MAX_DOCUMENT_BYTES
from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.tenant.keyproviders.failures import misconfigured, refused, unavailable

if TYPE_CHECKING:
    import grpc

CALL_S: Final = 60.0
_SCHEMES: Final = re.compile(r"(?:https?|tcp)://")
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class GrpcTls:
    """PEM texts for a server that is spoken to with TLS; no CA means the system's."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class GrpcProvider:
    """One server."""

    address: str
    tls: GrpcTls | None = None
    timeout_s: float = CALL_S

    def call(self, method: str, document: bytes) -> bytes:
        """Call once on a connection of its own; raise the error family."""
        # Loaded here: most owners have no such server, and the library takes long to load.
        import grpc  # noqa: PLC0415

        target = plain_target(self.address, allow_network=self.tls is not None)
        messages = KEY_PROVIDER_SERVICE.methods[method]
        with self._channel(target) as channel:
            call = channel.unary_unary(
                f"/{KEY_PROVIDER_SERVICE.name}/{method}",
                request_serializer=bytes,
                response_deserializer=bytes,
            )
            try:
                answer = call(encode(messages.request, {"document": document}), timeout=self.timeout_s)
                return bytes(decode(messages.response, answer)["document"])
            except grpc.RpcError as error:
                raise self._failure(error) from error
            except ProtobufError as error:
                raise refused(f"{self.address}: its answer is no message of the protocol") from error

    def _channel(self, target: str) -> grpc.Channel:
        import grpc  # noqa: PLC0415

        options: list[tuple[str, Any]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", 2 * MAX_DOCUMENT_BYTES),
        ]
        if self.tls is None:
            return grpc.insecure_channel(target, options=options)
        if self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        credentials = grpc.ssl_channel_credentials(self.tls.ca, self.tls.key, self.tls.certificate)
        return grpc.secure_channel(target, credentials, options=options)

    def _failure(self, error: grpc.RpcError) -> Exception:
        import grpc  # noqa: PLC0415

        # Every error that a call raises is a call as well; the library's types do not say so.
        call: Any = error
        detail = f"{self.address}: {call.code().name}: {call.details()}"
        if call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            return unavailable(detail)
        return refused(detail)


def plain_target(address: str, *, allow_network: bool) -> str:
    """
    Return the address as gRPC takes it; raise ``InvalidInputError`` (keyprovider-config-invalid).

    Without ``allow_network`` it must be a Unix socket, a loopback address or ``localhost``.
    """
    if address.startswith("unix:"):
        return address
    target = _SCHEMES.sub("", address, count=1)
    match = _HOST_AND_PORT.fullmatch(target)
    if match is None:
        raise misconfigured(f"{address}: is neither HOST:PORT nor unix:PATH")
    if not allow_network and not _is_loopback(match["host"].strip("[]")):
        raise misconfigured(
            f"{address}: is not on this machine, and layer keys travel without TLS only there"
        )
    return target


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
