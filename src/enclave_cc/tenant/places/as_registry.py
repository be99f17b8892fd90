"""
A place behind the port that pulling an image uses.

So whatever lies in a layout or an archive is verified by the very code that decides inside the enclave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.manifest import parse_manifest_or_index
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.transport.registry.client import FetchedManifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.tenant.places.ports import ImageReader


class PlaceAsRegistry:
    """Answers for one place under whatever reference is asked for; every tag names the place's image."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._signature_tags: dict[str, Digest] = {}

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Return a manifest, or what stands under a signature tag."""
        if ":" in digest_or_tag:
            return self._answer(self._reader.document(self._seen(Digest.parse(digest_or_tag))))
        signed = self._signature_tags.get(digest_or_tag)
        if signed is not None:
            body = self._reader.signature_manifest(signed)
            if body is None:
                raise InvalidInputError(
                    "image-not-found",
                    "the place does not have the image",
                    stage=Stage.FETCH,
                    detail=str(reference),
                )
            return self._answer(body)
        return self._answer(self._reader.document(self._seen(self._reader.resolve().digest)))

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """Return a configuration or a payload, compared with its digest; layers are not asked for here."""
        del reference
        yield self._reader.document(Digest.parse(descriptor_digest))[offset:]

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """Return the place's list."""
        del reference
        index = self._reader.referrers(Digest.parse(digest))
        return FetchedManifest(index.to_bytes(), index.media_type)

    def _seen(self, digest: Digest) -> Digest:
        self._signature_tags[signature_tag(digest)] = digest
        return digest

    def _answer(self, body: bytes) -> FetchedManifest:
        return FetchedManifest(body, parse_manifest_or_index(body).media_type)
