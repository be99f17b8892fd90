"""Sign images as cosign does, into the layout beside the image; ``push`` brings both to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import OCI_CONFIG
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.cosign import (
    PAYLOAD_MEDIA_TYPE,
    SIGNATURE_ANNOTATION,
    PayloadClaim,
    generate_signing_key,
    sign_payload,
    signature_tag,
)
from enclave_cc.tenant.image_layout import REF_NAME

if TYPE_CHECKING:
    from enclave_cc.tenant.image_layout import ImageLayout

__all__ = ["generate_signing_key", "sign_image"]


def sign_image(
    layout: ImageLayout, manifest: Descriptor, *, repository: str, private_key_pem: bytes
) -> Descriptor:
    """
    Sign a manifest (or index) for a repository; return the signature manifest's descriptor.

    ``repository`` is the name people pull by, without a tag (``registry.example/team/app``).
    Signatures that are there already stay. Raises ``InvalidInputError`` (signing-key-invalid,
    reference-invalid).
    """
    name = Reference.parse(repository, default_tag=None).name
    payload = PayloadClaim(manifest.digest, name).to_bytes()
    signature = sign_payload(payload, private_key_pem)
    digest, size = layout.add_blob([payload])
    layer = Descriptor(PAYLOAD_MEDIA_TYPE, digest, size, {SIGNATURE_ANNOTATION: signature})
    tag = signature_tag(manifest.digest)
    config_digest, config_size = layout.add_blob([b"{}"])
    signed = Manifest(Descriptor(OCI_CONFIG, config_digest, config_size), (*_existing(layout, tag), layer))
    return layout.add_manifest(signed, name=tag)


def _existing(layout: ImageLayout, tag: str) -> tuple[Descriptor, ...]:
    """List the signatures that the layout holds under a tag."""
    for entry in layout.index().manifests:
        if entry.annotations.get(REF_NAME) == tag:
            document = layout.read_manifest(entry)
            return document.layers if isinstance(document, Manifest) else ()
    return ()
