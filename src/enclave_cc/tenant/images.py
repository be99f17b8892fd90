"""The images that a command works on: read, parsed, and told apart from what only describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.manifest import Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.tenant.platforms import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.tenant.places.ports import ImageReader
    from enclave_cc.tenant.platforms import Chosen

# BuildKit lists provenance and package lists beside the images that they describe.
_REFERENCE_TYPE: Final = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Image:
    """One image's manifest, its position in the index, and the bytes that it has at its place."""

    position: int
    descriptor: Descriptor
    body: bytes
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Images:
    """What a name stands for: one manifest, or an index of several; and what was left out of the index."""

    chosen: Chosen
    images: tuple[Image, ...]
    left_out: tuple[Descriptor, ...]

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Return every layer once, the largest first: it takes longest."""
        unique = {layer.digest: layer for image in self.images for layer in image.manifest.layers}
        return tuple(sorted(unique.values(), key=lambda layer: -layer.size))


def read_images(reader: ImageReader, platforms: Sequence[Platform] = ()) -> Images:
    """Read the image that a place names; raise ``InvalidInputError`` (manifest-invalid and others)."""
    chosen = choose(reader, reader.resolve(), platforms)
    entries = (chosen.descriptor,) if chosen.index is None else chosen.index.manifests
    described = tuple(entry for entry in entries if _REFERENCE_TYPE in entry.annotations)
    images = tuple(
        _read(reader, position, entry) for position, entry in enumerate(entries) if entry not in described
    )
    return Images(chosen, images, described)


def layer_type(layer: Descriptor) -> LayerMediaType:
    """Read a layer's media type; raise ``InvalidInputError`` (layer-media-type-unknown)."""
    try:
        return LayerMediaType.parse(layer.media_type)
    except ValueError as error:
        raise InvalidInputError(
            "layer-media-type-unknown", "a layer is of an unknown kind", stage=Stage.CONFIG, detail=str(error)
        ) from error


def _read(reader: ImageReader, position: int, descriptor: Descriptor) -> Image:
    body = reader.document(descriptor.digest)
    document = parse_manifest_or_index(body)
    if not isinstance(document, Manifest):
        raise InvalidInputError(
            "manifest-invalid",
            "the image manifest is malformed",
            stage=Stage.FETCH,
            detail="an index in an index",
        )
    return Image(position, descriptor, body, document)
