"""Asking containerd what it knows: which image a container was made from, and an image's manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.node.daemon.containerd_messages import CONTAINERS, CONTENT, IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.formats.messages.service import Service

_NAMESPACE_HEADER: Final = "containerd-namespace"
_CALL_S: Final = 5.0
# A manifest or an image configuration; the distribution specification bounds manifests the same way.
MAX_DOCUMENT_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """An image's name in containerd and the digest that the name points to there; both are hints."""

    name: str
    digest: str


class ContainerdClient:
    """One lazily connected channel; containerd may come later than this daemon and may restart."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{socket}", options=[("grpc.max_receive_message_length", 4 * MAX_DOCUMENT_BYTES)]
        )

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def image_of(self, namespace: str, container_id: str) -> ContainerImage:
        """Resolve container, image name and digest; raise ``InvalidInputError`` or ``UnavailableError``."""
        found = self._call(CONTAINERS, "Get", {"id": container_id}, namespace)["container"]
        if not found or not found["image"]:
            raise _unknown("the container has no image")
        return ContainerImage(found["image"], self.digest_of(namespace, found["image"]))

    def digest_of(self, namespace: str, image: str) -> str:
        """Resolve an image name; raise as ``image_of``."""
        found = self._call(IMAGES, "Get", {"name": image}, namespace)["image"]
        if not found or not found["target"]:
            raise _unknown("the image has no target")
        return str(found["target"]["digest"])

    def document(self, namespace: str, digest: str) -> bytes:
        """Read a small blob from containerd's content store; raise as ``image_of``."""
        method = CONTENT.methods["Read"]
        stream = self._channel.unary_stream(
            f"/{CONTENT.name}/Read", request_serializer=bytes, response_deserializer=bytes
        )
        request = encode(method.request, {"digest": digest, "size": MAX_DOCUMENT_BYTES})
        document = bytearray()
        try:
            for message in stream(request, timeout=_CALL_S, metadata=((_NAMESPACE_HEADER, namespace),)):
                document += decode(method.response, message)["data"]
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise _unknown("a document is too large")
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except ProtobufError as error:
            raise _unknown(str(error)) from error
        return bytes(document)

    def _call(self, service: Service, name: str, request: dict[str, Any], namespace: str) -> dict[str, Any]:
        method = service.methods[name]
        call = self._channel.unary_unary(
            f"/{service.name}/{name}", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answer = call(
                encode(method.request, request), timeout=_CALL_S, metadata=((_NAMESPACE_HEADER, namespace),)
            )
            return decode(method.response, answer)
        except grpc.RpcError as error:
            raise _error_of(error) from error
        except (ProtobufError, ValueError) as error:
            raise _unknown(str(error)) from error


def _error_of(error: grpc.RpcError) -> InvalidInputError | UnavailableError:
    # Every error that a call raises is a call as well; the library's types do not say so.
    call: Any = error
    code = call.code()
    detail = f"{code.name}: {call.details()}"
    if code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
        return _unknown(detail)
    return UnavailableError(
        "containerd-unavailable", "containerd does not answer", stage=Stage.RESOLVE, detail=detail
    )


def _unknown(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "container-image-unknown",
        "containerd does not know the container's image",
        stage=Stage.RESOLVE,
        detail=detail,
    )
