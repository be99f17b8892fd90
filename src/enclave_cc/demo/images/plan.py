"""What an image of the demo shall hold, before the tenant's tools compress, encrypt and push it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave_cc.tenant.building.image import LayerInput, ProcessDescription


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Layers from the bottom up, and the image's own way to start."""

    layers: tuple[LayerInput, ...]
    process: ProcessDescription
