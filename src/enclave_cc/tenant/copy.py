"""
Copy an image from any place to any other: every byte as it is, with what vouches for it if that is asked for.

Choosing one platform of several leaves that image alone; choosing more makes a new index of them, under a
new digest that no signature of the old one covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.manifest import Manifest, parse_manifest_or_index
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.tenant.places.transfer import transfer_blob
from enclave_cc.tenant.platforms import choose
from enclave_cc.tenant.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter


@dataclass(frozen=True, slots=True)
class Copied:
    """What was written: the image, and how many documents vouch for it."""

    descriptor: Descriptor
    signatures: int


def copy_image(
    reader: ImageReader,
    writer: ImageWriter,
    *,
    platforms: Sequence[Platform] = (),
    signatures: bool = False,
    work: Work | None = None,
) -> Copied:
    """
    Copy the image that both places name.

    Raises ``InvalidInputError`` (image-not-found, image-platform-missing …), ``RefusedError``
    (digest-mismatch) and ``UnavailableError``.
    """
    copying = _Copying(reader, writer, work or Work())
    top = choose(reader, reader.resolve(), platforms)
    images = [top.descriptor] if top.index is None else list(top.index.manifests)
    for descriptor in images:
        copying.manifest(descriptor)
    written = copying.top(top.body, top.descriptor)
    count = 0
    if signatures:
        for digest in {entry.digest: None for entry in (*images, written)}:
            count += copying.attachments(digest)
    return Copied(written, count)


class _Copying:
    """What the steps of one copy share."""

    def __init__(self, reader: ImageReader, writer: ImageWriter, work: Work) -> None:
        self._reader = reader
        self._writer = writer
        self._work = work

    def manifest(self, descriptor: Descriptor) -> None:
        """Copy the blobs of a manifest, and the manifest without a name."""
        body = self._reader.document(descriptor.digest)
        document = parse_manifest_or_index(body)
        if not isinstance(document, Manifest):
            raise InvalidInputError(
                "manifest-invalid",
                "the image manifest is malformed",
                stage=Stage.FETCH,
                detail="an index in an index",
            )
        blobs = {blob.digest: blob for blob in (document.config, *document.layers)}
        self._work.each(self._blob, list(blobs.values()))
        self._writer.add_manifest(body, descriptor.media_type)

    def top(self, body: bytes, descriptor: Descriptor) -> Descriptor:
        """Write the document that has the name."""
        return self._writer.add_manifest(body, descriptor.media_type, name=self._writer.name)

    def attachments(self, digest: Digest) -> int:
        """Copy the signatures under a manifest's signature tag and what refers to it; count them."""
        count = 0
        signed = self._reader.signature_manifest(digest)
        if signed is not None:
            document = Manifest.parse(signed)
            self._work.each(self._blob, (document.config, *document.layers))
            self._writer.add_manifest(signed, document.media_type, name=signature_tag(digest))
            count += len(document.layers)
        for entry in self._reader.referrers(digest).manifests:
            self.manifest(entry)
            self._writer.add_referrer(digest, entry)
            count += 1
        return count

    def _blob(self, descriptor: Descriptor) -> None:
        transfer_blob(self._reader, self._writer, descriptor, self._work)
