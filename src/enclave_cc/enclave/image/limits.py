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
# Stock containerd gives up at 128 lower directories of an overlay; images that run elsewhere have fewer.
LAYERS: Final = 127
# Larger than the largest machine-learning images in public registries.
COMPRESSED_LAYER_BYTES: Final = 32 << 30
UNCOMPRESSED_LAYER_BYTES: Final = 128 << 30
# Deflate reaches 1032 on zeros alone; whole layers of real images stay below 20.
RATIO: Final = 200
# Small layers of sparse files may exceed the ratio; this much costs nobody anything.
RATIO_FREE_BYTES: Final = 64 << 20
# Ciphertext up to this size is authenticated as a whole before its first byte is used; the
# rest of the budget of 100 MB (DESIGN.md §10) belongs to the stages behind.
SPOOL_BYTES: Final = 64 << 20


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

    def uncompressed_bytes_of(self, compressed_bytes: int) -> int:
        """Return how large a layer of this size may become: the smaller of the two limits."""
        by_ratio = max(compressed_bytes * self.ratio, self.ratio_free_bytes)
        return min(by_ratio, self.uncompressed_layer_bytes)


DEFAULT_LIMITS: Final = Limits()


def at_most(rule: str, *, limit: int, actual: int) -> Finding:
    """Check a number against a limit."""
    outcome = Outcome.PASSED if actual <= limit else Outcome.FAILED
    return Finding(rule, outcome, f"at most {limit}", str(actual))
