"""Simple signatures of one image, as a store keeps them beside a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.ports import SignatureStore
    from enclave_cc.image.signatures.subject import SignatureSubject


class NoSignatureStore:
    """The store of an owner who names none: it is empty."""

    def signatures(self, reference: Reference, digest: Digest) -> Iterator[bytes]:
        """Yield nothing."""
        del reference, digest
        yield from ()


class SimpleSignatures:
    """Signatures over the image's manifest and its index; iterating twice fetches once."""

    def __init__(self, subject: SignatureSubject, store: SignatureStore) -> None:
        self._known: list[bytes] = []
        self._rest = (
            signature
            for document in subject.documents
            for signature in store.signatures(subject.asked, document.digest)
        )

    def __iter__(self) -> Iterator[bytes]:
        yield from tuple(self._known)
        for signature in self._rest:
            self._known.append(signature)
            yield signature
