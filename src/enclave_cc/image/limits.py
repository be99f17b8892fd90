"""
How much an image may cost before anybody vouched for it, and where each number comes from.

Sizes in descriptors are claims until the bytes were counted, so every limit is enforced on what
arrives and not only on what was announced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from enclave_cc.core.findings import Finding, Outcome

# The distribution specification lets registries refuse larger manifests.
MANIFEST_BYTES: Final = 4 << 20
# Long build histories stay far below.
CONFIG_BYTES: Final = 8 << 20
# Engines that stack one overlay directory per layer stop at about this many.
LAYERS: Final = 127
# Room for images that carry whole models.
COMPRESSED_LAYER_BYTES: Final = 32 << 30
UNCOMPRESSED_LAYER_BYTES: Final = 128 << 30
# Deflate reaches 1032 on zeros alone; programs and data stay far below this.
RATIO: Final = 200
# Small layers of sparse files may exceed the ratio; this much costs nobody anything.
RATIO_FREE_BYTES: Final = 64 << 20
# Bytes of a layer up to this size are authenticated as a whole before the first one is used. With
# it an interpreter with everything imported (34 MB) stays inside 100 MB.
SPOOL_BYTES: Final = 48 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one pull; the defaults are the module's constants."""

    manifest_bytes: int = MANIFEST_BYTES
    config_bytes: int = CONFIG_BYTES
    layers: int = LAYERS
    compressed_layer_bytes: int = COMPRESSED_LAYER_BYTES
    uncompressed_layer_bytes: int = UNCOMPRESSED_LAYER_BYTES
    ratio: int = RATIO
    ratio_free_bytes: int = RATIO_FREE_BYTES
    spool_bytes: int = SPOOL_BYTES

    def uncompressed_bytes_of(self, announced_bytes: int, *, arrived_bytes: int) -> int:
        """
        Return how large a layer may have become by now: the smaller of the two limits.

        What fits the spool was counted already; beyond it an announced size is a claim, and the
        ratio is one to what arrived.
        """
        counted = min(announced_bytes, max(arrived_bytes, self.spool_bytes))
        by_ratio = max(counted * self.ratio, self.ratio_free_bytes)
        return min(by_ratio, self.uncompressed_layer_bytes)


DEFAULT_LIMITS: Final = Limits()


def at_most(rule: str, *, limit: int, actual: int) -> Finding:
    """Check a number against a limit."""
    outcome = Outcome.PASSED if actual <= limit else Outcome.FAILED
    return Finding(rule, outcome, f"at most {limit}", str(actual))
