"""What shims ask the daemon: the image that a container was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.node.daemon.containerd_client import ContainerdClient
    from enclave_cc.transport.ttrpc_server import CallContext

_MAX_NAME_CHARS: Final = 256


class NodeService:
    """Answers from containerd, every time anew: labels and annotations are no identity."""

    def __init__(self, client: ContainerdClient) -> None:
        self._client = client

    def handlers(self) -> dict[str, Callable[[dict[str, Any], CallContext], dict[str, Any]]]:
        """Return the handler of each method."""
        return {"ResolveContainer": self._resolve}

    def _resolve(self, request: dict[str, Any], _context: CallContext) -> dict[str, Any]:
        namespace, container_id = request["namespace"], request["container_id"]
        if not _is_name(namespace) or not _is_name(container_id):
            raise InvalidInputError("invalid-request", "the request is malformed", stage=Stage.RESOLVE)
        image = self._client.image_of(namespace, container_id)
        return {"image": image.name, "manifest_digest": image.digest}


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME_CHARS and text.isascii() and text.isprintable()
