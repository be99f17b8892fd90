"""What a layer blob is made of, read from its media type: compression first, then encryption."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
CONFIG_TYPES: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_ENCRYPTED: Final = "+encrypted"
_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_LAYER_BASES: Final = (
    (_OCI_LAYER, "+"),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", "+"),
    ("application/vnd.docker.image.rootfs.diff.tar", "."),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", "."),
)


class Compression(StrEnum):
    """How a layer's tar was made smaller."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def _known_layers() -> dict[str, Compression]:
    known = {}
    for base, joint in _LAYER_BASES:
        known[base] = Compression.NONE
        known[f"{base}{joint}gzip"] = Compression.GZIP
        known[f"{base}{joint}zstd"] = Compression.ZSTD
    return known


_LAYERS: Final = _known_layers()


@dataclass(frozen=True, slots=True)
class LayerMediaType:
    """``blob = encrypt(compress(tar))``, each step optional."""

    compression: Compression
    encrypted: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a layer's media type, OCI's or Docker's; raise ``ValueError`` for anything else."""
        plain = text.removesuffix(_ENCRYPTED)
        compression = _LAYERS.get(plain)
        if compression is None:
            raise ValueError(f"unknown layer media type {text[:128]!r}")
        return cls(compression, encrypted=plain != text)

    def __str__(self) -> str:
        compression = "" if self.compression is Compression.NONE else f"+{self.compression}"
        return f"{_OCI_LAYER}{compression}{_ENCRYPTED if self.encrypted else ''}"
