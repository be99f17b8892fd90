"""
A CRI v1 client for the calls that a kubelet makes in a pod's life, over gRPC with our own protobuf tables.

It moves messages and maps failures; the text of a failure is kept whole, because the host's line of a
refusal is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import grpc

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.demo.cri.host_view import HostView
from enclave_cc.demo.cri.messages import IMAGE_SERVICE, RUNTIME_SERVICE, ContainerState
from enclave_cc.formats.protobuf import decode, encode

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from enclave_cc.formats.messages.service import Service

# Pulling, verifying and sealing on a slow machine; the kubelet's own bound is two minutes.
CALL_WITHIN_S: Final = 120.0
# As containerd's own limit: an ExecSync answer may hold 16 MiB.
_MAX_MESSAGE_BYTES: Final = 16 << 20


class CriCallError(UnavailableError):
    """A CRI call failed; `host` is what a kubelet could read of it."""

    def __init__(self, method: str, status: str, message: str) -> None:
        self.host = HostView.find(message)
        super().__init__("cri-call-failed", f"{method} failed ({status})", stage=Stage.RUN, detail=message)


class CriClient:
    """One connection to the CRI socket; a context manager."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{socket}",
            options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def runtime(self, method: str, **values: object) -> dict[str, object]:
        """Call the runtime service."""
        return self._call(RUNTIME_SERVICE, method, values)

    def images(self, method: str, **values: object) -> dict[str, object]:
        """Call the image service."""
        return self._call(IMAGE_SERVICE, method, values)

    def exit_code(self, container_id: str) -> int | None:
        """Exit code of a container that ended, else None."""
        status = self.runtime("ContainerStatus", container_id=container_id)["status"]
        if not isinstance(status, dict) or status["state"] != ContainerState.EXITED:
            return None
        return int(status["exit_code"])

    def exec_sync(self, container_id: str, *command: str, within_s: int = 30) -> tuple[int, bytes, bytes]:
        """Exit code, standard output and standard error of a command in a container."""
        answer = self.runtime("ExecSync", container_id=container_id, cmd=list(command), timeout=within_s)
        code, output, errors = answer["exit_code"], answer["stdout"], answer["stderr"]
        if not (isinstance(code, int) and isinstance(output, bytes) and isinstance(errors, bytes)):
            raise CriCallError("ExecSync", "INTERNAL", "the answer has another shape")
        return code, output, errors

    def _call(self, service: Service, method: str, values: dict[str, object]) -> dict[str, object]:
        shape = service.methods[method]
        call = self._channel.unary_unary(
            f"/{service.name}/{method}",
            request_serializer=lambda message: encode(shape.request, message),
            response_deserializer=lambda data: decode(shape.response, data),
        )
        try:
            answer: dict[str, object] = call(values, timeout=CALL_WITHIN_S)
        except grpc.RpcError as error:
            raise CriCallError(method, error.code().name, error.details() or "") from error
        return answer
