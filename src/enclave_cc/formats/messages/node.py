"""What the node daemon answers to shims: which image a container was made from, as containerd knows it."""

from __future__ import annotations

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import STRING, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NODE_SERVICE: Final = Service(
    "enclavecc.node.v1.Node",
    {
        "ResolveContainer": Method(
            Schema("ResolveContainerRequest", {1: ("namespace", STRING), 2: ("container_id", STRING)}),
            Schema("ResolveContainerResponse", {1: ("image", STRING), 2: ("manifest_digest", STRING)}),
        ),
    },
)
