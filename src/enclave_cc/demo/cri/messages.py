"""
The few messages of the kubelet's CRI v1 that a pod's life needs, as tables for our own protobuf codec.

Field numbers: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto. Only fields that we send or read are named;
the codec skips the others. No behaviour here: what is called in which order is `kubelet`'s.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import BOOL, BYTES, INT, STRING, UINT, Schema, mapping, repeated


class NamespaceMode(IntEnum):
    """Whose namespace a pod or container joins (NamespaceMode)."""

    POD = 0
    CONTAINER = 1
    NODE = 2


class ContainerState(IntEnum):
    """ContainerState of the CRI."""

    CREATED = 0
    RUNNING = 1
    EXITED = 2
    UNKNOWN = 3


class SandboxState(IntEnum):
    """PodSandboxState of the CRI."""

    READY = 0
    NOT_READY = 1


NAMESPACE_OPTION: Final = Schema("NamespaceOption", {1: ("network", INT), 2: ("pid", INT), 3: ("ipc", INT)})
INT64_VALUE: Final = Schema("Int64Value", {1: ("value", INT)})
LINUX_SANDBOX_SECURITY_CONTEXT: Final = Schema(
    "LinuxSandboxSecurityContext", {1: ("namespace_options", NAMESPACE_OPTION), 4: ("readonly_rootfs", BOOL)}
)
LINUX_POD_SANDBOX_CONFIG: Final = Schema(
    "LinuxPodSandboxConfig",
    {1: ("cgroup_parent", STRING), 2: ("security_context", LINUX_SANDBOX_SECURITY_CONTEXT)},
)
POD_SANDBOX_METADATA: Final = Schema(
    "PodSandboxMetadata",
    {1: ("name", STRING), 2: ("uid", STRING), 3: ("namespace", STRING), 4: ("attempt", UINT)},
)
POD_SANDBOX_CONFIG: Final = Schema(
    "PodSandboxConfig",
    {
        1: ("metadata", POD_SANDBOX_METADATA),
        2: ("hostname", STRING),
        3: ("log_directory", STRING),
        6: ("labels", mapping()),
        7: ("annotations", mapping()),
        8: ("linux", LINUX_POD_SANDBOX_CONFIG),
    },
)
IMAGE_SPEC: Final = Schema("ImageSpec", {1: ("image", STRING), 2: ("annotations", mapping())})
KEY_VALUE: Final = Schema("KeyValue", {1: ("key", STRING), 2: ("value", STRING)})
CAPABILITY: Final = Schema(
    "Capability", {1: ("add_capabilities", repeated(STRING)), 2: ("drop_capabilities", repeated(STRING))}
)
LINUX_CONTAINER_SECURITY_CONTEXT: Final = Schema(
    "LinuxContainerSecurityContext",
    {
        1: ("capabilities", CAPABILITY),
        3: ("namespace_options", NAMESPACE_OPTION),
        5: ("run_as_user", INT64_VALUE),
        7: ("readonly_rootfs", BOOL),
        11: ("no_new_privs", BOOL),
    },
)
LINUX_CONTAINER_CONFIG: Final = Schema(
    "LinuxContainerConfig", {2: ("security_context", LINUX_CONTAINER_SECURITY_CONTEXT)}
)
CONTAINER_METADATA: Final = Schema("ContainerMetadata", {1: ("name", STRING), 2: ("attempt", UINT)})
CONTAINER_CONFIG: Final = Schema(
    "ContainerConfig",
    {
        1: ("metadata", CONTAINER_METADATA),
        2: ("image", IMAGE_SPEC),
        3: ("command", repeated(STRING)),
        4: ("args", repeated(STRING)),
        5: ("working_dir", STRING),
        6: ("envs", repeated(KEY_VALUE)),
        9: ("labels", mapping()),
        10: ("annotations", mapping()),
        11: ("log_path", STRING),
        15: ("linux", LINUX_CONTAINER_CONFIG),
    },
)
POD_SANDBOX: Final = Schema(
    "PodSandbox", {1: ("id", STRING), 2: ("metadata", POD_SANDBOX_METADATA), 3: ("state", INT)}
)
CONTAINER: Final = Schema(
    "Container",
    {
        1: ("id", STRING),
        2: ("pod_sandbox_id", STRING),
        3: ("metadata", CONTAINER_METADATA),
        4: ("image", IMAGE_SPEC),
        5: ("image_ref", STRING),
        6: ("state", INT),
    },
)
CONTAINER_STATUS: Final = Schema(
    "ContainerStatus",
    {
        1: ("id", STRING),
        2: ("metadata", CONTAINER_METADATA),
        3: ("state", INT),
        7: ("exit_code", INT),
        8: ("image", IMAGE_SPEC),
        9: ("image_ref", STRING),
        10: ("reason", STRING),
        11: ("message", STRING),
        15: ("log_path", STRING),
    },
)
IMAGE: Final = Schema(
    "Image",
    {
        1: ("id", STRING),
        2: ("repo_tags", repeated(STRING)),
        3: ("repo_digests", repeated(STRING)),
        4: ("size", UINT),
    },
)
RUNTIME_CONDITION: Final = Schema(
    "RuntimeCondition",
    {1: ("type", STRING), 2: ("status", BOOL), 3: ("reason", STRING), 4: ("message", STRING)},
)
RUNTIME_STATUS: Final = Schema("RuntimeStatus", {1: ("conditions", repeated(RUNTIME_CONDITION))})

_NOTHING: Final = Schema("Empty", {})
_SANDBOX_ID: Final = Schema("PodSandboxId", {1: ("pod_sandbox_id", STRING)})
_CONTAINER_ID: Final = Schema("ContainerId", {1: ("container_id", STRING)})
_IMAGE_REQUEST: Final = Schema("ImageRequest", {1: ("image", IMAGE_SPEC)})

RUNTIME_SERVICE: Final = Service(
    "runtime.v1.RuntimeService",
    {
        "Version": Method(
            Schema("VersionRequest", {1: ("version", STRING)}),
            Schema(
                "VersionResponse",
                {
                    1: ("version", STRING),
                    2: ("runtime_name", STRING),
                    3: ("runtime_version", STRING),
                    4: ("runtime_api_version", STRING),
                },
            ),
        ),
        "Status": Method(_NOTHING, Schema("StatusResponse", {1: ("status", RUNTIME_STATUS)})),
        "RunPodSandbox": Method(
            Schema(
                "RunPodSandboxRequest", {1: ("config", POD_SANDBOX_CONFIG), 2: ("runtime_handler", STRING)}
            ),
            _SANDBOX_ID,
        ),
        "StopPodSandbox": Method(_SANDBOX_ID, _NOTHING),
        "RemovePodSandbox": Method(_SANDBOX_ID, _NOTHING),
        "ListPodSandbox": Method(
            _NOTHING, Schema("ListPodSandboxResponse", {1: ("items", repeated(POD_SANDBOX))})
        ),
        "CreateContainer": Method(
            Schema(
                "CreateContainerRequest",
                {
                    1: ("pod_sandbox_id", STRING),
                    2: ("config", CONTAINER_CONFIG),
                    3: ("sandbox_config", POD_SANDBOX_CONFIG),
                },
            ),
            _CONTAINER_ID,
        ),
        "StartContainer": Method(_CONTAINER_ID, _NOTHING),
        "StopContainer": Method(
            Schema("StopContainerRequest", {1: ("container_id", STRING), 2: ("timeout", INT)}), _NOTHING
        ),
        "RemoveContainer": Method(_CONTAINER_ID, _NOTHING),
        "ListContainers": Method(
            _NOTHING, Schema("ListContainersResponse", {1: ("containers", repeated(CONTAINER))})
        ),
        "ContainerStatus": Method(
            _CONTAINER_ID, Schema("ContainerStatusResponse", {1: ("status", CONTAINER_STATUS)})
        ),
        "ExecSync": Method(
            Schema(
                "ExecSyncRequest",
                {1: ("container_id", STRING), 2: ("cmd", repeated(STRING)), 3: ("timeout", INT)},
            ),
            Schema("ExecSyncResponse", {1: ("stdout", BYTES), 2: ("stderr", BYTES), 3: ("exit_code", INT)}),
        ),
    },
)

IMAGE_SERVICE: Final = Service(
    "runtime.v1.ImageService",
    {
        "ListImages": Method(_NOTHING, Schema("ListImagesResponse", {1: ("images", repeated(IMAGE))})),
        "ImageStatus": Method(_IMAGE_REQUEST, Schema("ImageStatusResponse", {1: ("image", IMAGE)})),
        "PullImage": Method(
            Schema("PullImageRequest", {1: ("image", IMAGE_SPEC), 3: ("sandbox_config", POD_SANDBOX_CONFIG)}),
            Schema("PullImageResponse", {1: ("image_ref", STRING)}),
        ),
        "RemoveImage": Method(_IMAGE_REQUEST, _NOTHING),
    },
)
