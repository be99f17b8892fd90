"""
How far the opening of an image has come: numbers that the stages raise and that anybody may read meanwhile.

Nobody is called per chunk. Who wants to show something looks from time to time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class LayerProgress:
    """Compressed bytes of one layer that arrived, of how many that are announced."""

    total_bytes: int = 0
    arrived_bytes: int = 0
    finished: bool = False
    reused: bool = False

    def reuse(self) -> None:
        """Say that the layer was opened before, and nothing of it has to arrive."""
        self.total_bytes = self.arrived_bytes
        self.reused = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look: the stage, and the sums over all layers, which are zero until the manifest is known."""

    stage: Stage
    layers: int = 0
    finished_layers: int = 0
    total_bytes: int = 0
    arrived_bytes: int = 0
    reused_layers: int = 0


class Progress:
    """Written by the one who opens an image, read by others; each number is right on its own."""

    def __init__(self) -> None:
        self._stage = Stage.REQUEST
        self._layers: tuple[LayerProgress, ...] = ()

    def enter(self, stage: Stage) -> None:
        """Say which stage begins."""
        self._stage = stage

    def expect(self, sizes_bytes: Sequence[int]) -> tuple[LayerProgress, ...]:
        """Say how large the layers are that will arrive; return the numbers to raise."""
        self._layers = tuple(LayerProgress(size) for size in sizes_bytes)
        return self._layers

    def snapshot(self) -> Snapshot:
        """Look."""
        layers = self._layers
        return Snapshot(
            self._stage,
            len(layers),
            sum(layer.finished for layer in layers),
            sum(layer.total_bytes for layer in layers),
            sum(layer.arrived_bytes for layer in layers),
            sum(layer.reused for layer in layers),
        )
