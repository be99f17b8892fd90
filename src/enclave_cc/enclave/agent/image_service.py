"""
Upstream's image pull (``grpc.Image/PullImage``), for shims that know no other call.

It is the same preparation with the image's own start instead of a host's specification. Credentials that the
host sends are not used: those of the owner come from the broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.enclave.agent.prepare import PrepareRequest

if TYPE_CHECKING:
    from enclave_cc.enclave.agent.prepare import Preparations
    from enclave_cc.transport.ttrpc_server import CallContext


class ImageService:
    """Handler of ``grpc.Image``."""

    def __init__(self, preparations: Preparations) -> None:
        self._preparations = preparations

    def pull_image(self, request: dict[str, Any], _: CallContext) -> dict[str, Any]:
        """Prepare an image for a container; the answer names the image as it was asked for."""
        self._preparations.prepare(
            PrepareRequest(
                container_id=request["container_id"],
                image=request["image"],
                manifest_digest="",
                spec=b"",
                request_id=fresh_request_id(),
            )
        )
        return {"image_ref": request["image"]}
