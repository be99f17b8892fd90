"""One snapshot as containerd sees it, and the labels that decide what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

# Names the chain that an unpacked layer would become; containerd looks the answer up by it.
REFERENCE_LABEL: Final = "containerd.io/snapshot.ref"
IMAGE_LABEL: Final = "containerd.io/snapshot/cri.image-ref"
MANIFEST_LABEL: Final = "containerd.io/snapshot/cri.manifest-digest"
LAYER_LABEL: Final = "containerd.io/snapshot/cri.layer-digest"
LAYERS_LABEL: Final = "containerd.io/snapshot/cri.image-layers"


class Kind(IntEnum):
    """What may be done with a snapshot; the numbers are containerd's."""

    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """``number`` names the directory; a ``guest`` layer has none of its content on this host."""

    name: str
    number: int
    parent: str
    kind: Kind
    guest: bool
    created_ns: int
    updated_ns: int
    labels: dict[str, str] = field(default_factory=dict)
