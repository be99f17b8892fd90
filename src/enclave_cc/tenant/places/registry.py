"""
A repository of a registry as a place.

Writing goes straight through: a blob whose digest is not known yet is sent as an open upload that the
digest closes, so nothing is spooled. Manifests are stored by digest, and tags are set on ``commit``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, parse_manifest_or_index
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.tenant.places.checked import checked, require_digest
from enclave_cc.tenant.places.image_layout import MAX_DOCUMENT_BYTES
from enclave_cc.tenant.places.referrers import fallback_tag, with_referrer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.transport.registry.client import FetchedManifest


class Registry(Protocol):
    """The registry client, as far as places use it."""

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Return a manifest's bytes."""

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """Stream a blob's bytes."""

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """Return the index of what refers to a manifest."""

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Tell whether the repository holds a blob already."""

    def mount_blob(self, reference: Reference, digest: str, *, source: str) -> bool:
        """Take a blob over from another repository of the registry; tell whether that was possible."""

    def upload_blob(
        self, reference: Reference, digest: str, data: bytes | Iterable[bytes], *, size: int
    ) -> None:
        """Upload a blob."""

    def upload_stream(
        self,
        reference: Reference,
        chunks: Iterable[bytes],
        *,
        digest: Callable[[], str],
        size: int | None = None,
    ) -> None:
        """Upload a blob whose digest is asked for after its last byte."""

    def put_manifest(self, reference: Reference, tag: str, body: bytes, media_type: str) -> bool:
        """Store a manifest; tell whether the registry lists referrers by itself."""


class RegistryReader:
    """Reads one repository."""

    def __init__(self, client: Registry, reference: Reference, *, taken_for: str = "") -> None:
        self.reference = reference
        self._client = client
        self._taken_for = taken_for
        # Manifests and blobs live at different addresses; what was seen as a manifest is fetched as one.
        self._manifests: dict[Digest, bytes | None] = {}

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return the manifest of a tag or of a digest."""
        target = name or self.reference.target
        body = self._named_manifest(target)
        wanted = Digest.parse(target) if ":" in target else None
        digest = Digest.of(body, "sha256" if wanted is None else wanted.algorithm)
        require_digest(digest, wanted)
        document = parse_manifest_or_index(body)
        self._remember(digest, body)
        return Descriptor(document.media_type, digest, len(body))

    def _named_manifest(self, target: str) -> bytes:
        try:
            return self._client.manifest(self.reference, digest_or_tag=target).body
        except EnclaveCcError as error:
            # Who meant a directory and mistyped it shall not look for the fault in the network.
            if self._taken_for:
                error.detail = f"taken for {self._taken_for}; {error.detail}"
            raise

    def document(self, digest: Digest) -> bytes:
        """Return a manifest or a small blob."""
        if (body := self._manifests.get(digest)) is not None:
            return body
        if digest in self._manifests:
            return self._fetched_manifest(digest)
        try:
            return self._small_blob(digest)
        except InvalidInputError as error:
            if error.code != "image-not-found":
                raise
        return self._fetched_manifest(digest)

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        return checked(self._client.blob(self.reference, str(descriptor.digest)), descriptor)

    def referrers(self, digest: Digest) -> Index:
        """Return what the registry lists."""
        index = Index.parse(self._client.referrers(self.reference, digest=str(digest)).body)
        for entry in index.manifests:
            self._manifests.setdefault(entry.digest, None)
        return index

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return the manifest under the signature tag."""
        try:
            return self._client.manifest(self.reference, digest_or_tag=signature_tag(digest)).body
        except InvalidInputError as error:
            if error.code != "image-not-found":
                raise
        return None

    def _fetched_manifest(self, digest: Digest) -> bytes:
        body = self._client.manifest(self.reference, digest_or_tag=str(digest)).body
        digest.verify(body)
        self._remember(digest, body)
        return body

    def _small_blob(self, digest: Digest) -> bytes:
        body = bytearray()
        for chunk in self._client.blob(self.reference, str(digest)):
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                break
        digest.verify(body)
        return bytes(body)

    def _remember(self, digest: Digest, body: bytes) -> None:
        self._manifests[digest] = body
        document = parse_manifest_or_index(body)
        if isinstance(document, Index):
            for entry in document.manifests:
                self._manifests.setdefault(entry.digest, None)


class RegistryWriter:
    """Writes into one repository."""

    def __init__(self, client: Registry, reference: Reference) -> None:
        self.name = reference.tag
        self.reference = reference
        self._client = client
        self._tags: dict[str, tuple[bytes, str]] = {}
        self._listed: set[Digest] = set()

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether the repository holds a blob."""
        return self._client.has_blob(self.reference, str(digest))

    def mount_blob(self, digest: Digest, source: Reference) -> bool:
        """Take a blob over from another repository of the same registry, if that is possible."""
        if source.registry != self.reference.registry:
            return False
        return self._client.mount_blob(self.reference, str(digest), source=source.repository)

    def add_blob(
        self, chunks: Iterable[bytes], size: int | None = None, *, digest: Digest | None = None
    ) -> tuple[Digest, int]:
        """Send a blob; an upload that breaks off leaves nothing that has a digest."""
        seen = _Seen("sha256" if digest is None else digest.algorithm, digest)
        self._client.upload_stream(self.reference, seen.through(chunks), digest=seen.require, size=size)
        return seen.digest, seen.size

    def add_manifest(self, body: bytes, media_type: str, *, name: str | None = None) -> Descriptor:
        """Store a manifest by its digest; its tag waits."""
        digest = Digest.of(body)
        if self._client.put_manifest(self.reference, str(digest), body, media_type):
            self._listed.add(digest)
        if name is not None:
            self._tags[name] = (body, media_type)
        return Descriptor(media_type, digest, len(body))

    def add_referrer(self, subject: Digest, descriptor: Descriptor) -> None:
        """Add to the index under the fallback tag, unless the registry keeps the list itself."""
        if descriptor.digest in self._listed:
            return
        tag = fallback_tag(subject)
        if tag in self._tags:
            known = Index.parse(self._tags[tag][0])
        else:
            known = Index.parse(self._client.referrers(self.reference, digest=str(subject)).body)
        index = with_referrer(known, descriptor)
        self._tags[tag] = (index.to_bytes(), index.media_type)

    def commit(self) -> None:
        """Set the tags: whatever was not named by the place's text first, so that signatures precede."""
        for name in sorted(self._tags, key=lambda tag: tag == self.name):
            body, media_type = self._tags[name]
            self._client.put_manifest(self.reference, name, body, media_type)

    def abandon(self) -> None:
        """Leave untagged blobs and manifests to the registry's garbage collection."""


class _Seen:
    """What went through an upload."""

    def __init__(self, algorithm: str, wanted: Digest | None) -> None:
        self._algorithm = algorithm
        self._wanted = wanted
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass chunks on."""
        for chunk in chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> Digest:
        """Return the digest so far."""
        return Digest(self._algorithm, self._hash.hexdigest())

    def require(self) -> str:
        """Return the digest at the end; raise ``RefusedError`` if another was announced."""
        require_digest(self.digest, self._wanted)
        return str(self.digest)
