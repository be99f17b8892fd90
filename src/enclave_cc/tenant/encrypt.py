"""
Encrypt an image: every layer under a key of its own, that key wrapped for every recipient.

The blob is ``encrypt(compress(tar))``; diff ids stay as they are. The configuration gets one label that
names this encryption: hosts know images by their configuration's digest, and would take the plain image
and every encryption of it for one and the same. The recipients, and nobody else, can open the
result.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.oci.media_types import OCI_INDEX, OCI_MANIFEST, LayerMediaType
from enclave_cc.formats.ocicrypt.layer_cipher import (
    PUBLIC_OPTIONS_ANNOTATION,
    LayerEncryptor,
    PrivateOptions,
)
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.tenant.image import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.image_layout import ImageLayout


# Digest over the encrypted layers' digests: equal for one encryption, different for two of the same image.
ENCRYPTION_LABEL: Final = "dev.enclave-cc.encryption"
_MAX_CONFIG_BYTES: Final = 4 << 20


def encrypt_image(
    source: ImageLayout, target: ImageLayout, recipients: Sequence[Recipient], *, name: str = "latest"
) -> Descriptor:
    """
    Write an encrypted copy of an image into another layout; return its manifest's descriptor.

    An index is encrypted with all its images. Raises ``InvalidInputError`` (image-key-invalid,
    image-already-encrypted, image-layout-invalid).
    """
    descriptor = _encrypt_document(source, target, source.find(name), recipients)
    target.name(descriptor, name)
    return descriptor


def _encrypt_document(
    source: ImageLayout, target: ImageLayout, descriptor: Descriptor, recipients: Sequence[Recipient]
) -> Descriptor:
    document = source.read_manifest(descriptor)
    if isinstance(document, Manifest):
        encrypted = _encrypt_manifest(source, target, document, recipients)
        return replace(target.add_manifest(encrypted), platform=descriptor.platform)
    entries = tuple(
        replace(_encrypt_document(source, target, entry, recipients), annotations=dict(entry.annotations))
        for entry in document.manifests
    )
    return target.add_manifest(Index(entries, OCI_INDEX, document.annotations))


def _encrypt_manifest(
    source: ImageLayout, target: ImageLayout, manifest: Manifest, recipients: Sequence[Recipient]
) -> Manifest:
    layers = tuple(_encrypt_layer(source, target, layer, recipients) for layer in manifest.layers)
    document = _labelled(source.read_document(manifest.config.digest), layers)
    config_digest, config_size = target.add_blob([document])
    config = replace(manifest.config, digest=config_digest, size=config_size)
    return Manifest(config, layers, OCI_MANIFEST, manifest.annotations)


def _labelled(document: bytes, layers: tuple[Descriptor, ...]) -> bytes:
    """Add the label to a configuration; every other member stays as it is."""
    try:
        members = loads(document, max_bytes=_MAX_CONFIG_BYTES)
    except InvalidJsonError as error:
        raise _config_error(str(error)) from error
    if not isinstance(members, dict) or not isinstance(members.get("config") or {}, dict):
        raise _config_error("is not an object")
    config = dict(members.get("config") or {})
    labels = config.get("Labels") or {}
    if not isinstance(labels, dict):
        raise _config_error("Labels: is not an object")
    encryption = Digest.of("\n".join(str(layer.digest) for layer in layers).encode())
    config["Labels"] = {**labels, ENCRYPTION_LABEL: str(encryption)}
    return json.dumps({**members, "config": config}, separators=(",", ":")).encode()


def _config_error(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "image-config-invalid", "the image's configuration is malformed", stage=Stage.CONFIG, detail=detail
    )


def _encrypt_layer(
    source: ImageLayout, target: ImageLayout, layer: Descriptor, recipients: Sequence[Recipient]
) -> Descriptor:
    media_type = _plain_type(layer)
    options = PrivateOptions.fresh(layer.digest)
    encryptor = LayerEncryptor(options)
    wrapped = wrapped_annotations(options, recipients)
    digest, size = target.add_blob(_encrypted_chunks(source, layer.digest, encryptor))
    annotations = {
        **layer.annotations,
        PUBLIC_OPTIONS_ANNOTATION: encryptor.finish().encode(),
        **wrapped,
    }
    options.symkey.wipe()
    return Descriptor(str(replace(media_type, encrypted=True)), digest, size, annotations)


def _plain_type(layer: Descriptor) -> LayerMediaType:
    try:
        media_type = LayerMediaType.parse(layer.media_type)
    except ValueError as error:
        raise InvalidInputError(
            "layer-media-type-unknown", "a layer is of an unknown kind", stage=Stage.CONFIG, detail=str(error)
        ) from error
    if media_type.encrypted:
        raise InvalidInputError(
            "image-already-encrypted",
            "a layer of the image is encrypted already",
            stage=Stage.CONFIG,
            detail=str(layer.digest),
        )
    return media_type


def _encrypted_chunks(source: ImageLayout, digest: Digest, encryptor: LayerEncryptor) -> Iterator[bytes]:
    with source.open_blob(digest) as stream:
        for chunk in read_chunks(stream):
            yield encryptor.update(chunk)
