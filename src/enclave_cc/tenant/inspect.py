"""
Say what an image is without opening it: its layers, who holds their keys, and which signatures exist.

Nothing is verified here beyond digests of documents; it reports what the image claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.descriptor import Platform
from enclave_cc.formats.oci.manifest import Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, parse_packets
from enclave_cc.formats.signatures.cosign import signature_layers, signature_tag
from enclave_cc.tenant.image_layout import REF_NAME

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.tenant.image_layout import ImageLayout
    from enclave_cc.transport.registry import FetchedManifest

_HERE: Final = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer as its descriptor describes it."""

    digest: Digest
    size: int
    media_type: str
    encrypted: bool
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageReport:
    """One image; ``signatures`` counts those under its signature tag, verified by nobody."""

    manifest_digest: Digest
    layers: tuple[LayerReport, ...]
    signatures: int

    @property
    def encrypted(self) -> bool:
        """Tell whether every layer is encrypted."""
        return bool(self.layers) and all(layer.encrypted for layer in self.layers)


class ManifestSource(Protocol):
    """The registry client, as far as inspecting goes."""

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Return a manifest's bytes."""


def inspect_layout(layout: ImageLayout, *, name: str = "latest", platform: Platform = _HERE) -> ImageReport:
    """Report on an image of a layout."""
    descriptor = layout.find(name)
    document = layout.read_manifest(descriptor)
    if not isinstance(document, Manifest):
        descriptor = document.select(platform)
        document = _manifest(layout.read_document(descriptor.digest))
    tag = signature_tag(descriptor.digest)
    signatures = [
        layout.read_document(entry.digest)
        for entry in layout.index().manifests
        if entry.annotations.get(REF_NAME) == tag
    ]
    return _report(descriptor.digest, document, signatures)


def inspect_remote(
    reference: Reference, source: ManifestSource, *, platform: Platform = _HERE
) -> ImageReport:
    """Report on an image in a registry."""
    body = source.manifest(reference, digest_or_tag=reference.target).body
    digest = Digest.of(body)
    document = parse_manifest_or_index(body)
    if not isinstance(document, Manifest):
        digest = document.select(platform).digest
        body = source.manifest(reference, digest_or_tag=str(digest)).body
        digest.verify(body)
        document = _manifest(body)
    return _report(digest, document, _remote_signatures(reference, source, digest))


def _remote_signatures(reference: Reference, source: ManifestSource, digest: Digest) -> list[bytes]:
    try:
        return [source.manifest(reference, digest_or_tag=signature_tag(digest)).body]
    except InvalidInputError as error:
        if error.code != "image-not-found":
            raise
        return []


def _report(digest: Digest, manifest: Manifest, signatures: list[bytes]) -> ImageReport:
    return ImageReport(
        manifest_digest=digest,
        layers=tuple(_layer(layer) for layer in manifest.layers),
        signatures=sum(len(signature_layers(Manifest.parse(body))) for body in signatures),
    )


def _layer(descriptor: Descriptor) -> LayerReport:
    try:
        encrypted = LayerMediaType.parse(descriptor.media_type).encrypted
    except ValueError:
        encrypted = False
    packets = parse_packets(descriptor.annotations.get(KEYS_ANNOTATION, "")) if encrypted else ()
    return LayerReport(
        digest=descriptor.digest,
        size=descriptor.size,
        media_type=descriptor.media_type,
        encrypted=encrypted,
        key_ids=tuple(packet.kid for packet in packets),
    )


def _manifest(body: bytes) -> Manifest:
    document = parse_manifest_or_index(body)
    if isinstance(document, Manifest):
        return document
    raise InvalidInputError(
        "manifest-invalid",
        "the image manifest is malformed",
        stage=Stage.FETCH,
        detail="an index in an index",
    )
