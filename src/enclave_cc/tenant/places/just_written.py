"""
What a command has written and not committed yet, as a place to read from.

So an image is signed before it has a name, and nobody can pull it in between. Signatures that its target
has already are the target's to tell: the same image may have been there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import InternalError, Stage
from enclave_cc.formats.oci.manifest import Index
from enclave_cc.tenant.places.checked import checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.places.ports import ImageReader


class JustWritten:
    """Documents by their digests, above what was there before."""

    def __init__(
        self, top: Descriptor, documents: Mapping[Digest, bytes], before: ImageReader | None = None
    ) -> None:
        self._top = top
        self._documents = documents
        self._before = before

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return what was written."""
        del name
        return self._top

    def document(self, digest: Digest) -> bytes:
        """Return a manifest or an index that was written."""
        body = self._documents.get(digest)
        if body is None:
            raise InternalError(
                "internal", "a document was not written", stage=Stage.STORE, detail=str(digest)
            )
        return body

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Return a document as a blob."""
        return checked([self.document(descriptor.digest)], descriptor)

    def referrers(self, digest: Digest) -> Index:
        """Return what referred to the manifest before."""
        return Index(()) if self._before is None else self._before.referrers(digest)

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return the signatures that were there before."""
        return None if self._before is None else self._before.signature_manifest(digest)
