"""Bring an image from a layout to a registry, its signatures with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.tenant.building.image import read_chunks
from enclave_cc.tenant.places.image_layout import REF_NAME
from enclave_cc.tenant.places.layout import LayoutReader
from enclave_cc.tenant.places.referrers import fallback_tag, with_referrer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.tenant.places.image_layout import ImageLayout
    from enclave_cc.transport.registry.client import FetchedManifest


class PushTarget(Protocol):
    """The registry client, as far as pushing goes."""

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Tell whether the repository holds a blob already."""

    def upload_blob(
        self, reference: Reference, digest: str, data: bytes | Iterable[bytes], *, size: int
    ) -> None:
        """Upload a blob."""

    def put_manifest(self, reference: Reference, tag: str, body: bytes, media_type: str) -> bool:
        """Store a manifest under a tag or a digest; tell whether the registry lists referrers by itself."""

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """Return the index of what refers to a manifest."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is in the registry now."""

    digest: Digest
    signatures: tuple[str, ...]


def push_image(
    layout: ImageLayout, reference: Reference, target: PushTarget, *, name: str = "latest"
) -> Pushed:
    """
    Push an image under the reference's tag, and every signature of it as it is found in the layout.

    Signatures come first, so that nobody pulls a tag before its signature is there.
    """
    descriptor = layout.find(name)
    digests = _push_content(layout, reference, target, descriptor)
    tags = {signature_tag(digest) for digest in digests}
    signatures = [entry for entry in layout.index().manifests if entry.annotations.get(REF_NAME, "") in tags]
    for entry in signatures:
        _push_content(layout, reference, target, entry)
        _put(layout, reference, target, entry, entry.annotations[REF_NAME])
    bundles = [found for digest in digests for found in _push_referrers(layout, reference, target, digest)]
    if reference.tag is not None:
        _put(layout, reference, target, descriptor, reference.tag)
    return Pushed(descriptor.digest, (*(entry.annotations[REF_NAME] for entry in signatures), *bundles))


def _push_referrers(
    layout: ImageLayout, reference: Reference, target: PushTarget, digest: Digest
) -> list[str]:
    """Push what refers to a manifest; where the registry keeps no list of it, add to the one under a tag."""
    entries = LayoutReader(layout).referrers(digest).manifests
    unlisted = []
    for entry in entries:
        _push_content(layout, reference, target, entry)
        if not _put(layout, reference, target, entry, str(entry.digest)):
            unlisted.append(entry)
    if unlisted:
        index = Index.parse(target.referrers(reference, digest=str(digest)).body)
        for entry in unlisted:
            index = with_referrer(index, entry)
        target.put_manifest(reference, fallback_tag(digest), index.to_bytes(), index.media_type)
    return [str(entry.digest) for entry in entries]


def _push_content(
    layout: ImageLayout, reference: Reference, target: PushTarget, descriptor: Descriptor
) -> list[Digest]:
    """Push everything below a manifest and the manifest itself by digest; return all manifests' digests."""
    document = layout.read_manifest(descriptor)
    digests = [descriptor.digest]
    if isinstance(document, Manifest):
        for blob in (document.config, *document.layers):
            _push_blob(layout, reference, target, blob)
    else:
        for entry in document.manifests:
            digests += _push_content(layout, reference, target, entry)
    _put(layout, reference, target, descriptor, str(descriptor.digest))
    return digests


def _push_blob(layout: ImageLayout, reference: Reference, target: PushTarget, blob: Descriptor) -> None:
    if target.has_blob(reference, str(blob.digest)):
        return
    with layout.open_blob(blob.digest) as stream:
        target.upload_blob(reference, str(blob.digest), read_chunks(stream), size=blob.size)


def _put(
    layout: ImageLayout, reference: Reference, target: PushTarget, descriptor: Descriptor, tag: str
) -> bool:
    return target.put_manifest(reference, tag, layout.read_document(descriptor.digest), descriptor.media_type)
