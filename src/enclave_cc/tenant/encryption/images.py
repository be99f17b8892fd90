"""
Encrypt an image from any place into any other: each layer under a key of its own, wrapped for all recipients.

A layer that occurs twice, in one image or in those of several platforms, is encrypted once and shared.
Everything else about an image stays as it is: the compression of its layers, their diff ids, the members of
its documents. What only describes a plain image (provenance, package lists) is left out, because it may say
what the layers hide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.media_types import OCI_INDEX, OCI_MANIFEST, Compression, LayerMediaType
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.tenant.encryption.label import add_label
from enclave_cc.tenant.encryption.layer_encryption import EncryptedLayer, LayerEncryption
from enclave_cc.tenant.encryption.layer_keys import FreshKeys
from enclave_cc.tenant.encryption.manifest_edit import (
    FORMER_DIGEST,
    DocumentEdit,
    annotate,
    point_to,
    set_type,
    use_oci_type,
)
from enclave_cc.tenant.images import layer_type, read_images
from enclave_cc.tenant.work import Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.encryption.layer_keys import LayerKeySource
    from enclave_cc.tenant.encryption.manifest_edit import Members
    from enclave_cc.tenant.images import Image, Images
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter

# Decrypting gets these back by taking the suffix away, so they need no note.
_KEPT_BY_SUFFIX: Final = frozenset(str(LayerMediaType(each, encrypted=False)) for each in Compression)


@dataclass(frozen=True, slots=True)
class Encryption:
    """
    What is asked for: who shall be able to open the image, which platforms, and where keys come from.

    Layers that are not compressed are compressed first, if ``compress`` says how.
    """

    recipients: Sequence[Recipient]
    platforms: Sequence[Platform] = ()
    keys: LayerKeySource = field(default_factory=FreshKeys)
    compress: Compression = Compression.NONE


@dataclass(frozen=True, slots=True)
class Encrypted:
    """What was written: descriptor, documents, layers (each counted once); and what was left out."""

    descriptor: Descriptor
    documents: Mapping[Digest, bytes]
    images: int
    layers: int
    layer_bytes: int
    left_out: tuple[Descriptor, ...]


def encrypt(
    reader: ImageReader, writer: ImageWriter, request: Encryption, work: Work | None = None
) -> Encrypted:
    """
    Write an encrypted copy of the image that the places name.

    Nothing is written before every layer's type and every recipient was found usable. Raises
    ``InvalidInputError`` (recipient-missing, image-key-invalid, image-already-encrypted,
    layer-media-type-unknown, image-config-invalid …) and what the places raise.
    """
    work = work or Work()
    found = read_images(reader, request.platforms)
    for layer in found.layers:
        _require_plain(layer)
    _require_usable(request.recipients)
    encryption = LayerEncryption(reader, writer, request, work)
    done = work.each(encryption.encrypt, found.layers)
    layers = {plain.digest: layer for plain, layer in zip(found.layers, done, strict=True)}
    noted = _Noting(writer)
    written = [_write_image(reader, noted, image, layers, found) for image in found.images]
    top = written[0] if found.chosen.index is None else _write_index(noted, found, written)
    layer_bytes = sum(layer.size for layer in done)
    return Encrypted(top, noted.documents, len(written), len(done), layer_bytes, found.left_out)


class _Noting:
    """A writer that remembers the documents that it wrote."""

    def __init__(self, writer: ImageWriter) -> None:
        self.documents: dict[Digest, bytes] = {}
        self._writer = writer

    @property
    def name(self) -> str | None:
        """Return the place's name."""
        return self._writer.name

    def add_blob(self, document: bytes) -> tuple[Digest, int]:
        """Store a configuration."""
        return self._writer.add_blob([document], len(document))

    def add_manifest(self, body: bytes, media_type: str, *, name: str | None) -> Descriptor:
        """Store a manifest or an index."""
        descriptor = self._writer.add_manifest(body, media_type, name=name)
        self.documents[descriptor.digest] = body
        return descriptor


def _require_plain(layer: Descriptor) -> None:
    if layer_type(layer).encrypted:
        raise InvalidInputError(
            "image-already-encrypted",
            "a layer of the image is encrypted already",
            stage=Stage.CONFIG,
            detail=str(layer.digest),
        )


def _require_usable(recipients: Sequence[Recipient]) -> None:
    """Wrap something of no value, so that a recipient that cannot be used is known at once."""
    if not recipients:
        raise InvalidInputError(
            "recipient-missing", "nobody could open the image: it needs a recipient", stage=Stage.CONFIG
        )
    wrapped_annotations(PrivateOptions.fresh(Digest.of(b"")), recipients)


def _write_image(
    reader: ImageReader,
    writer: _Noting,
    image: Image,
    layers: Mapping[Digest, EncryptedLayer],
    found: Images,
) -> Descriptor:
    """Write the labelled configuration and the changed manifest."""
    config = image.manifest.config
    names = [layers[layer.digest].digest for layer in image.manifest.layers]
    labelled = add_label(reader.document(config.digest), names)
    edit = DocumentEdit(image.body)
    edit.use_oci_type()
    use_oci_type(edit.config)
    annotate(edit.config, {FORMER_DIGEST: str(config.digest)})
    point_to(edit.config, *writer.add_blob(labelled))
    for members, plain in zip(edit.layers, image.manifest.layers, strict=True):
        _replace_layer(members, plain, layers[plain.digest])
    name = writer.name if found.chosen.index is None else None
    return writer.add_manifest(edit.to_bytes(), OCI_MANIFEST, name=name)


def _replace_layer(members: Members, plain: Descriptor, encrypted: EncryptedLayer) -> None:
    media_type = str(LayerMediaType(encrypted.compression, encrypted=True))
    if plain.media_type in _KEPT_BY_SUFFIX or encrypted.compression is not layer_type(plain).compression:
        members["mediaType"] = media_type
    else:
        set_type(members, media_type, plain.media_type)
    point_to(members, encrypted.digest, encrypted.size)
    annotate(members, encrypted.annotations)


def _write_index(writer: _Noting, found: Images, written: Sequence[Descriptor]) -> Descriptor:
    edit = DocumentEdit(found.chosen.body)
    edit.use_oci_type()
    edit.keep_entries(image.position for image in found.images)
    for members, descriptor in zip(edit.entries, written, strict=True):
        use_oci_type(members)
        point_to(members, descriptor.digest, descriptor.size)
    return writer.add_manifest(edit.to_bytes(), OCI_INDEX, name=writer.name)
