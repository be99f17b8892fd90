"""
How much an image may cost: the limits of a pull, which the owner may change in ``[image.limits]``.

Their values are measured with the rest of initdata, so they may be looser than ours as well as stricter.
Beyond the caps here an enclave could not keep its promises about memory, whatever anybody wishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.fields import Fields

# The distribution specification lets registries refuse larger manifests.
MANIFEST_BYTES: Final = 4 << 20
# An index of images; some builders wrap it in one more.
INDEX_DEPTH: Final = 2
# Objects and lists inside of one another; manifests need six.
DOCUMENT_DEPTH: Final = 32
# Long build histories stay far below.
CONFIG_BYTES: Final = 8 << 20
# Engines that stack one overlay directory per layer stop at about this many.
LAYERS: Final = 127
# About 1 KiB of memory each; the largest public images have a few hundred thousand files.
ENTRIES: Final = 1_000_000
# The kernel's own (PATH_MAX), without the final zero.
PATH_BYTES: Final = 4095
# Room for images that carry whole models.
COMPRESSED_LAYER_BYTES: Final = 32 << 30
UNCOMPRESSED_LAYER_BYTES: Final = 128 << 30
COMPRESSED_IMAGE_BYTES: Final = 64 << 30
UNCOMPRESSED_IMAGE_BYTES: Final = 256 << 30
# Deflate reaches 1032 on zeros alone; programs and data stay far below this.
RATIO: Final = 200
# Small layers of sparse files may exceed the ratio; this much costs nobody anything.
RATIO_FREE_BYTES: Final = 64 << 20
# A large image over a slow line; nobody waits longer for a container.
PULL_SECONDS: Final = 3600
# Bytes of a layer up to this size are authenticated as a whole before the first one is used; all layers that
# are opened at the same time share it. With it an agent stays inside 100 MB.
SPOOL_BYTES: Final = 24 << 20

_TEBIBYTE: Final = 1 << 40
# The greatest value of each setting: what the formats, the sealed image (2 TiB) and memory allow.
CAPS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "manifest_bytes": MANIFEST_BYTES,
        "index_depth": 8,
        "document_depth": DOCUMENT_DEPTH,
        "config_bytes": CONFIG_BYTES,
        "layers": 511,
        "entries": ENTRIES,
        "path_bytes": PATH_BYTES,
        "compressed_layer_bytes": _TEBIBYTE,
        "uncompressed_layer_bytes": _TEBIBYTE,
        "compressed_image_bytes": 2 * _TEBIBYTE,
        "uncompressed_image_bytes": 2 * _TEBIBYTE,
        "ratio": 10_000,
        "pull_seconds": 24 * 3600,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one pull; the defaults are the module's constants."""

    manifest_bytes: int = MANIFEST_BYTES
    index_depth: int = INDEX_DEPTH
    document_depth: int = DOCUMENT_DEPTH
    config_bytes: int = CONFIG_BYTES
    layers: int = LAYERS
    entries: int = ENTRIES
    path_bytes: int = PATH_BYTES
    compressed_layer_bytes: int = COMPRESSED_LAYER_BYTES
    uncompressed_layer_bytes: int = UNCOMPRESSED_LAYER_BYTES
    compressed_image_bytes: int = COMPRESSED_IMAGE_BYTES
    uncompressed_image_bytes: int = UNCOMPRESSED_IMAGE_BYTES
    ratio: int = RATIO
    ratio_free_bytes: int = RATIO_FREE_BYTES
    pull_seconds: int = PULL_SECONDS
    spool_bytes: int = SPOOL_BYTES

    @classmethod
    def parse(cls, table: Fields) -> Self:
        """Read ``[image.limits]``; raise ``FieldError`` for unknown names and numbers out of bounds."""
        table.only(*CAPS)
        stated = {name: _bounded(table, name) for name in table.names()}
        return replace(cls(), **stated)

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


def _bounded(table: Fields, name: str) -> int:
    value = table.integer(name)
    if not 0 < value <= CAPS[name]:
        raise table.error(name, f"is not between 1 and {CAPS[name]}")
    return value
