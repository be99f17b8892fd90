"""
What a tool may ask of a place, whichever kind it is.

Names are a place's own: a tag in a registry, a reference name in a layout. None stands for the name
that was part of the place's text. Blobs and documents that a reader returns were compared with their
digest; a blob's iterator raises before its end if they differ, so whoever consumes it must not keep
what it made of a stream that failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.manifest import Index


class ImageReader(Protocol):
    """A place to read from."""

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return the manifest or index of a name; raise ``InvalidInputError`` (image-not-found)."""

    def document(self, digest: Digest) -> bytes:
        """Return a manifest, an index or a configuration, compared with its digest."""

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob; raise ``RefusedError`` (digest-mismatch) at the end if it is another."""

    def referrers(self, digest: Digest) -> Index:
        """Return what refers to a manifest, unverified; an empty index if nothing does."""

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return what stands under the signature tag of a manifest, unverified; None if nothing does."""


class ImageWriter(Protocol):
    """
    A place to write to; nothing shows under a name before ``commit``, and ``abandon`` leaves nothing.

    Blobs may be added from several threads at once.
    """

    @property
    def name(self) -> str | None:
        """Return the name that was part of the place's text, or the place's default."""

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there already."""

    def add_blob(
        self, chunks: Iterable[bytes], size: int | None = None, *, digest: Digest | None = None
    ) -> tuple[Digest, int]:
        """
        Store a blob; return its digest and its size.

        ``size`` is a hint where it is known, and ``digest`` what the bytes must have: raise
        ``RefusedError`` (digest-mismatch) if they have another.
        """

    def add_manifest(self, body: bytes, media_type: str, *, name: str | None = None) -> Descriptor:
        """Store a manifest or an index, whose blobs are there; it gets the name, if one is given."""

    def add_referrer(self, subject: Digest, descriptor: Descriptor) -> None:
        """Make a stored manifest findable as one that refers to another."""

    def commit(self) -> None:
        """Make everything visible; raise the error family."""

    def abandon(self) -> None:
        """Remove what was not committed, as far as the place allows; never raises the error family."""
