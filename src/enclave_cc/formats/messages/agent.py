"""The agent enclave's services: image pull as upstream has it, container preparation, local attestation."""

from __future__ import annotations

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import BOOL, BYTES, EMPTY, STRING, UINT, Repeated, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

IMAGE_SERVICE: Final = Service(
    "grpc.Image",
    {
        "PullImage": Method(
            Schema(
                "PullImageRequest",
                {1: ("image", STRING), 2: ("container_id", STRING), 3: ("source_creds", STRING)},
            ),
            Schema("PullImageResponse", {1: ("image_ref", STRING)}),
        ),
    },
)

# Sizes are those of the compressed layers that have to arrive; they are zero until the manifest is known.
_PREPARATION: Final = Schema(
    "Preparation",
    {
        1: ("container_id", STRING),
        2: ("stage", STRING),
        3: ("layers", UINT),
        4: ("finished_layers", UINT),
        5: ("arrived_bytes", UINT),
        6: ("total_bytes", UINT),
        7: ("reused_layers", UINT),
    },
)

# How the root file system of a prepared container is served: the pod's wish, as the policy allowed it.
_CONTAINER: Final = Schema(
    "Container",
    {
        1: ("container_id", STRING),
        2: ("rootfs_writable", STRING),
        3: ("rootfs_writable_bytes", UINT),
        4: ("rootfs_decrypt_to_memory", BOOL),
    },
)

AGENT_SERVICE: Final = Service(
    "enclavecc.agent.v1.Agent",
    {
        # ``image`` is the reference that the user asked for; ``manifest_digest`` is the host's hint; ``spec``
        # is the OCI runtime specification in JSON. All of it is untrusted.
        "Prepare": Method(
            Schema(
                "PrepareRequest",
                {
                    1: ("request_id", STRING),
                    2: ("container_id", STRING),
                    3: ("image", STRING),
                    4: ("manifest_digest", STRING),
                    5: ("spec", BYTES),
                },
            ),
            Schema(
                "PrepareResponse",
                {1: ("image_digest", STRING), 2: ("sealed_image", STRING), 3: ("key_id", STRING)},
            ),
        ),
        "AuthorizeExec": Method(
            Schema(
                "AuthorizeExecRequest",
                {1: ("request_id", STRING), 2: ("container_id", STRING), 3: ("process", BYTES)},
            ),
            Schema("AuthorizeExecResponse", {1: ("process", BYTES)}),
        ),
        "Discard": Method(Schema("DiscardRequest", {1: ("container_id", STRING)}), EMPTY),
        "Status": Method(
            EMPTY,
            Schema(
                "StatusResponse",
                {
                    1: ("state", STRING),
                    2: ("pod_uid", STRING),
                    3: ("tee", STRING),
                    4: ("preparations", Repeated(_PREPARATION)),
                    5: ("containers", Repeated(_CONTAINER)),
                },
            ),
        ),
    },
)

_FRAME: Final = Schema("Frame", {1: ("message", BYTES)})

LOCAL_ATTESTATION_SERVICE: Final = Service(
    "enclavecc.attestation.v3.LocalAttestation",
    {"Hello": Method(_FRAME, _FRAME), "Prove": Method(_FRAME, _FRAME), "Report": Method(_FRAME, EMPTY)},
)
