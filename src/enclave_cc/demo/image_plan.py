"""What an image of the demo shall hold, before the tenant's tools compress, encrypt and push it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Compression(StrEnum):
    """How a layer's tar is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer's uncompressed tar and its packing."""

    tar: bytes
    compression: Compression


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Layers from the bottom up, and the image's own way to start."""

    layers: tuple[LayerPlan, ...]
    entrypoint: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
