"""
Decrypt an image from any place into any other: what encrypting changed is undone, and nothing else.

The plain layers have the digests that they had. If nobody changed the image since, so have its
configuration and its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX
from enclave_cc.tenant.encryption.label import remove_label
from enclave_cc.tenant.encryption.layer_decryption import EncryptedInput, LayerDecryption
from enclave_cc.tenant.encryption.manifest_edit import (
    FORMER_DIGEST,
    DocumentEdit,
    point_to,
    restore_type,
    take_annotations,
)
from enclave_cc.tenant.images import layer_type, read_images
from enclave_cc.tenant.places.transfer import transfer_blob
from enclave_cc.tenant.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.image.ports import LayerKeys
    from enclave_cc.tenant.encryption.manifest_edit import Members
    from enclave_cc.tenant.images import Image, Images
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter

# The agent's code wants to know whose layer it opens; here it is whoever the place names.
_HERE: Final = Reference("localhost", "image", "latest")

Plain = tuple[Digest, int]


@dataclass(frozen=True, slots=True)
class Decrypted:
    """What was written."""

    descriptor: Descriptor
    layers: int


def decrypt(
    reader: ImageReader,
    writer: ImageWriter,
    keys: LayerKeys,
    *,
    platforms: Sequence[Platform] = (),
    work: Work | None = None,
) -> Decrypted:
    """
    Write a plain copy of the image that the places name; plain layers of it stay as they are.

    Raises ``InvalidInputError`` (image-not-encrypted, image-config-mismatch …) and ``RefusedError``
    (layer-key-refused, layer-hmac-mismatch, diff-id-mismatch …).
    """
    work = work or Work()
    found = read_images(reader, platforms)
    inputs = {each.descriptor.digest: each for image in found.images for each in _encrypted(reader, image)}
    if not inputs:
        raise InvalidInputError(
            "image-not-encrypted", "no layer of the image is encrypted", stage=Stage.CONFIG
        )
    decryption = LayerDecryption(reader, writer, keys, work)
    done = work.each(lambda each: decryption.decrypt(each, _HERE), list(inputs.values()))
    plain = dict(zip(inputs, done, strict=True))
    others = [layer for layer in found.layers if layer.digest not in plain]
    work.each(lambda layer: transfer_blob(reader, writer, layer, work), others)
    written = [_write_image(reader, writer, image, plain, found) for image in found.images]
    top = written[0] if found.chosen.index is None else _write_index(writer, found, written)
    return Decrypted(top, len(done))


def _encrypted(reader: ImageReader, image: Image) -> Iterator[EncryptedInput]:
    """List a manifest's encrypted layers with the diff ids that its configuration gives them."""
    layers = image.manifest.layers
    if not any(layer_type(layer).encrypted for layer in layers):
        return
    diff_ids = ImageConfig.parse(reader.document(image.manifest.config.digest)).diff_ids
    if len(diff_ids) != len(layers):
        raise InvalidInputError(
            "image-config-mismatch",
            "the image's configuration does not fit its manifest or this platform",
            stage=Stage.VERIFY,
            detail=f"{len(layers)} layers, and {len(diff_ids)} diff ids",
        )
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        if layer_type(layer).encrypted:
            yield EncryptedInput(layer, diff_id)


def _write_image(
    reader: ImageReader, writer: ImageWriter, image: Image, plain: Mapping[Digest, Plain], found: Images
) -> Descriptor:
    edit = DocumentEdit(image.body)
    edit.restore_type()
    _restore_config(reader, writer, image, edit.config)
    for members, layer in zip(edit.layers, image.manifest.layers, strict=True):
        if layer.digest in plain:
            _restore_layer(members, layer, plain[layer.digest])
    name = writer.name if found.chosen.index is None else None
    return writer.add_manifest(edit.to_bytes(), edit.media_type, name=name)


def _restore_config(reader: ImageReader, writer: ImageWriter, image: Image, members: Members) -> None:
    former = take_annotations(members, [FORMER_DIGEST]).get(FORMER_DIGEST)
    restore_type(members)
    labelled = reader.document(image.manifest.config.digest)
    document = remove_label(labelled, None if former is None else Digest.parse(former))
    if document != labelled:
        point_to(members, *writer.add_blob([document], len(document)))
    else:
        writer.add_blob([document], len(document))


def _restore_layer(members: Members, layer: Descriptor, plain: Plain) -> None:
    keys = [name for name in layer.annotations if name.startswith(KEYS_PREFIX)]
    take_annotations(members, [*keys, PUBLIC_OPTIONS_ANNOTATION])
    compression = layer_type(layer).compression
    restore_type(members, str(LayerMediaType(compression, encrypted=False)))
    point_to(members, *plain)


def _write_index(writer: ImageWriter, found: Images, written: Sequence[Descriptor]) -> Descriptor:
    edit = DocumentEdit(found.chosen.body)
    edit.restore_type()
    edit.keep_entries(image.position for image in found.images)
    for members, descriptor in zip(edit.entries, written, strict=True):
        restore_type(members)
        point_to(members, descriptor.digest, descriptor.size)
    return writer.add_manifest(edit.to_bytes(), edit.media_type, name=writer.name)
