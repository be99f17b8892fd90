"""
Say what an image is without opening it: its layers, who holds their keys, and who signed it.

Encryption is reported as descriptors claim it: nothing is decrypted here. A signature counts as somebody's
only if it verifies under one of the keys at hand; the others are listed as what they are, unverified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.oci.descriptor import Platform
from enclave_cc.formats.oci.image_config import MAX_CONFIG_BYTES
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX
from enclave_cc.tenant.images import read_images
from enclave_cc.tenant.keys.ids import key_ids
from enclave_cc.tenant.signing.signature_list import list_signatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.signatures.public_key import PublicKey
    from enclave_cc.tenant.images import Image
    from enclave_cc.tenant.places.ports import ImageReader
    from enclave_cc.tenant.signing.signature_list import SignatureReport

_UNKNOWN: Final = Platform("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer as its descriptor describes it."""

    digest: Digest
    size: int
    media_type: str
    encrypted: bool
    schemes: tuple[str, ...]
    key_ids: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the layer as JSON members."""
        return {
            "digest": str(self.digest),
            "size": self.size,
            "media_type": self.media_type,
            "encrypted": self.encrypted,
            "schemes": list(self.schemes),
            "key_ids": list(self.key_ids),
        }


@dataclass(frozen=True, slots=True)
class ImageReport:
    """The image for one platform."""

    digest: Digest
    platform: Platform
    layers: tuple[LayerReport, ...]
    signatures: tuple[SignatureReport, ...]

    @property
    def encrypted(self) -> bool:
        """Tell whether every layer is encrypted, and there is one."""
        return bool(self.layers) and all(layer.encrypted for layer in self.layers)

    @property
    def size(self) -> int:
        """Return how many bytes the layers have together."""
        return sum(layer.size for layer in self.layers)

    def to_json(self) -> dict[str, object]:
        """Return the image as JSON members."""
        return {
            "platform": str(self.platform),
            "digest": str(self.digest),
            "size": self.size,
            "encrypted": self.encrypted,
            "layers": [layer.to_json() for layer in self.layers],
            "signatures": [signature.to_json() for signature in self.signatures],
        }


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that a name stands for; an index has signatures of its own."""

    descriptor: Descriptor
    images: tuple[ImageReport, ...]
    index_signatures: tuple[SignatureReport, ...] = ()

    @property
    def encrypted(self) -> bool:
        """Tell whether every layer of every image that was looked at is encrypted."""
        return bool(self.images) and all(image.encrypted for image in self.images)

    @property
    def signed(self) -> bool:
        """Tell whether every image, or the index above them, has a signature."""
        return bool(self.index_signatures) or (
            bool(self.images) and all(image.signatures for image in self.images)
        )

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON members."""
        return {
            "digest": str(self.descriptor.digest),
            "media_type": self.descriptor.media_type,
            "encrypted": self.encrypted,
            "signed": self.signed,
            "signatures": [signature.to_json() for signature in self.index_signatures],
            "images": [image.to_json() for image in self.images],
        }


def inspect(
    reader: ImageReader,
    asked: Reference,
    *,
    platforms: Sequence[Platform] = (),
    keys: Sequence[PublicKey] = (),
) -> Inspection:
    """
    Report on the image that a place names, under the reference by which people ask for it.

    Raises what the place raises, and ``InvalidInputError`` for documents that do not parse.
    """
    found = read_images(reader, platforms)
    images = tuple(
        ImageReport(
            digest=image.descriptor.digest,
            platform=platform_of(reader, image),
            layers=tuple(_layer(layer) for layer in image.manifest.layers),
            signatures=list_signatures(reader, asked, image.descriptor.digest, image.body, keys),
        )
        for image in found.images
    )
    top = reader.resolve()
    above: tuple[SignatureReport, ...] = ()
    if top.digest not in {image.digest for image in images}:
        above = list_signatures(reader, asked, top.digest, reader.document(top.digest), keys)
    return Inspection(top, images, above)


def platform_of(reader: ImageReader, image: Image) -> Platform:
    """Return what an image is for: as the index says, else as its configuration says."""
    if image.descriptor.platform is not None:
        return image.descriptor.platform
    try:
        config = loads(reader.document(image.manifest.config.digest), max_bytes=MAX_CONFIG_BYTES)
    except (InvalidJsonError, InvalidInputError):
        return _UNKNOWN
    members = config if isinstance(config, dict) else {}
    names = [members.get(name) for name in ("os", "architecture", "variant")]
    os, architecture, variant = (name if isinstance(name, str) else "" for name in names)
    return Platform(os, architecture, variant) if os and architecture else _UNKNOWN


def _layer(descriptor: Descriptor) -> LayerReport:
    try:
        encrypted = LayerMediaType.parse(descriptor.media_type).encrypted
    except ValueError:
        encrypted = False
    names = [name for name in descriptor.annotations if encrypted and name.startswith(KEYS_PREFIX)]
    return LayerReport(
        digest=descriptor.digest,
        size=descriptor.size,
        media_type=descriptor.media_type,
        encrypted=encrypted,
        schemes=tuple(name.removeprefix(KEYS_PREFIX) for name in names),
        key_ids=key_ids(descriptor) if encrypted else (),
    )
