"""The messages of containerd's gRPC services that this node uses (source: its ``api/services``)."""

from __future__ import annotations

from typing import Any, Final

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import (
    BYTES,
    EMPTY,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    Schema,
    mapping,
    repeated,
)


def _schema(name: str, *fields: tuple[str, Any]) -> Schema:
    """Make a schema with fields numbered from one, as most of these messages are."""
    return Schema(name, dict(enumerate(fields, 1)))


_SNAPSHOTTER: Final = ("snapshotter", STRING)
_KEY: Final = ("key", STRING)
_LABELS: Final = ("labels", mapping())
_MOUNT: Final = _schema(
    "Mount", ("type", STRING), ("source", STRING), ("target", STRING), ("options", repeated(STRING))
)
_MOUNTS: Final = _schema("MountsResponse", ("mounts", repeated(_MOUNT)))
_NEW: Final = _schema("PrepareSnapshotRequest", _SNAPSHOTTER, _KEY, ("parent", STRING), _LABELS)
_BY_KEY: Final = _schema("SnapshotRequest", _SNAPSHOTTER, _KEY)
_INFO: Final = _schema(
    "Info",
    ("name", STRING),
    ("parent", STRING),
    ("kind", UINT),
    ("created_at", TIMESTAMP),
    ("updated_at", TIMESTAMP),
    _LABELS,
)
_INFO_RESPONSE: Final = _schema("StatSnapshotResponse", ("info", _INFO))
_FIELD_MASK: Final = _schema("FieldMask", ("paths", repeated(STRING)))

SNAPSHOTS: Final = Service(
    "containerd.services.snapshots.v1.Snapshots",
    {
        "Prepare": Method(_NEW, _MOUNTS),
        "View": Method(_NEW, _MOUNTS),
        "Mounts": Method(_BY_KEY, _MOUNTS),
        "Commit": Method(
            _schema("CommitSnapshotRequest", _SNAPSHOTTER, ("name", STRING), _KEY, _LABELS), EMPTY
        ),
        "Remove": Method(_BY_KEY, EMPTY),
        "Stat": Method(_BY_KEY, _INFO_RESPONSE),
        "Update": Method(
            _schema("UpdateSnapshotRequest", _SNAPSHOTTER, ("info", _INFO), ("update_mask", _FIELD_MASK)),
            _INFO_RESPONSE,
        ),
        "List": Method(
            _schema("ListSnapshotsRequest", _SNAPSHOTTER, ("filters", repeated(STRING))),
            _schema("ListSnapshotsResponse", ("info", repeated(_INFO))),
        ),
        "Usage": Method(_BY_KEY, _schema("UsageResponse", ("size", INT), ("inodes", INT))),
        "Cleanup": Method(_schema("CleanupRequest", _SNAPSHOTTER), EMPTY),
    },
)

_CONTAINER: Final = Schema("Container", {1: ("id", STRING), 3: ("image", STRING)})
CONTAINERS: Final = Service(
    "containerd.services.containers.v1.Containers",
    {
        "Get": Method(
            _schema("GetContainerRequest", ("id", STRING)),
            _schema("GetContainerResponse", ("container", _CONTAINER)),
        )
    },
)

_DESCRIPTOR: Final = _schema("Descriptor", ("media_type", STRING), ("digest", STRING), ("size", INT))
_IMAGE: Final = Schema("Image", {1: ("name", STRING), 3: ("target", _DESCRIPTOR)})
IMAGES: Final = Service(
    "containerd.services.images.v1.Images",
    {
        "Get": Method(
            _schema("GetImageRequest", ("name", STRING)), _schema("GetImageResponse", ("image", _IMAGE))
        )
    },
)

CONTENT: Final = Service(
    "containerd.services.content.v1.Content",
    {
        "Read": Method(
            _schema("ReadContentRequest", ("digest", STRING), ("offset", INT), ("size", INT)),
            _schema("ReadContentResponse", ("offset", INT), ("data", BYTES)),
        )
    },
)
