"""
An OCI layout as a place.

A layout that does not exist yet grows under a temporary name beside its own and is renamed when it is
complete; into one that exists, blobs are added first and names last, in one replacement of the index.
"""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.tenant.places.checked import checked
from enclave_cc.tenant.places.files import beside, read_chunks, unusable
from enclave_cc.tenant.places.image_layout import REF_NAME, ImageLayout
from enclave_cc.tenant.places.referrers import fallback_tag, with_referrer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from enclave_cc.core.digest import Digest

DEFAULT_NAME = "latest"


class LayoutReader:
    """Reads one layout."""

    def __init__(self, layout: ImageLayout, name: str | None = None) -> None:
        self._layout = layout
        self._name = name or DEFAULT_NAME

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return the manifest of a name; a layout with one image needs none."""
        return self._layout.find(name or self._name)

    def document(self, digest: Digest) -> bytes:
        """Return a small blob."""
        return self._layout.read_document(digest)

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        return checked(self._chunks(descriptor.digest), descriptor)

    def referrers(self, digest: Digest) -> Index:
        """Return the index under the tag that stands in for the referrers API."""
        body = self._named(fallback_tag(digest))
        return Index(()) if body is None else Index.parse(body)

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return the manifest under the signature tag."""
        return self._named(signature_tag(digest))

    def _named(self, name: str) -> bytes | None:
        for entry in self._layout.index().manifests:
            if entry.annotations.get(REF_NAME) == name:
                return self._layout.read_document(entry.digest)
        return None

    def _chunks(self, digest: Digest) -> Iterator[bytes]:
        with self._layout.open_blob(digest) as stream:
            yield from read_chunks(stream)


class LayoutWriter:
    """Writes into one layout; names are kept back until ``commit``."""

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self.name: str | None = name or DEFAULT_NAME
        self._directory = directory
        self._names: dict[str, Descriptor] = {}
        self._fresh = not (directory / "oci-layout").exists()
        self._layout = _create_beside(directory) if self._fresh else ImageLayout.open(directory)

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there already; its bytes are compared by whoever reads it."""
        return self._layout.has_blob(digest)

    def add_blob(
        self, chunks: Iterable[bytes], size: int | None = None, *, digest: Digest | None = None
    ) -> tuple[Digest, int]:
        """Store a blob."""
        del size  # A file grows as it is written.
        return self._layout.add_blob(chunks, wanted=digest)

    def add_manifest(self, body: bytes, media_type: str, *, name: str | None = None) -> Descriptor:
        """Store a manifest or an index."""
        digest, size = self._layout.add_blob([body])
        descriptor = Descriptor(media_type, digest, size)
        if name is not None:
            self._names[name] = descriptor
        return descriptor

    def add_referrer(self, subject: Digest, descriptor: Descriptor) -> None:
        """Add to the index under the tag that stands in for the referrers API."""
        tag = fallback_tag(subject)
        pending = self._names.get(tag)
        if pending is None:
            known = LayoutReader(self._layout).referrers(subject)
        else:
            known = Index.parse(self._layout.read_document(pending.digest))
        index = with_referrer(known, descriptor)
        self.add_manifest(index.to_bytes(), index.media_type, name=tag)

    def commit(self) -> None:
        """Give the names; a new layout appears as a whole."""
        self._layout.name_all(self._names)
        if self._fresh:
            try:
                self._layout.directory.rename(self._directory)
            except OSError as error:
                self.abandon()
                raise unusable(self._directory, error) from error

    def abandon(self) -> None:
        """Remove a new layout; in one that existed, blobs without a name are left over."""
        if self._fresh:
            shutil.rmtree(self._layout.directory, ignore_errors=True)


def _create_beside(directory: Path) -> ImageLayout:
    """Make a layout on the same file system; a target that holds something else is refused now."""
    made = beside(directory)
    try:
        _require_free(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        return ImageLayout.create(made)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise unusable(directory, error) from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _require_free(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(errno.EEXIST, "exists and is no OCI layout")
