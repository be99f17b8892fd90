"""What has to be signed: the name asked for, and the documents that a signature of it can be about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A manifest or index whose bytes were compared with its digest."""

    digest: Digest
    body: bytes


@dataclass(frozen=True, slots=True)
class SignatureSubject:
    """The reference as the user wrote it, the image's manifest, and the index that names it if one does."""

    asked: Reference
    documents: tuple[SignedDocument, ...]

    @property
    def digests(self) -> frozenset[str]:
        """Return the digests that a signature may be about."""
        return frozenset(str(document.digest) for document in self.documents)
