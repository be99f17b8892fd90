"""An OCI layout inside of a tar file, as a place: read without unpacking, written from a finished layout."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from enclave_cc.formats.oci.manifest import Index
from enclave_cc.formats.sigstore.cosign import signature_tag
from enclave_cc.tenant.places.archive import Archive, archive_error
from enclave_cc.tenant.places.checked import checked
from enclave_cc.tenant.places.image_layout import MAX_DOCUMENT_BYTES, find_named
from enclave_cc.tenant.places.layout import DEFAULT_NAME
from enclave_cc.tenant.places.referrers import fallback_tag
from enclave_cc.tenant.places.staging import StagedWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.places.image_layout import ImageLayout


class OciArchiveReader:
    """Reads one archive."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._archive = Archive(path)
        self._name = name or DEFAULT_NAME
        try:
            self._index = Index.parse(self._archive.read("index.json", max_bytes=MAX_DOCUMENT_BYTES))
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def resolve(self, name: str | None = None) -> Descriptor:
        """Return the manifest of a name; an archive with one image needs none."""
        wanted = name or self._name
        found = find_named(self._index, wanted)
        if found is None:
            raise archive_error(f"has no image named {wanted}")
        return found

    def document(self, digest: Digest) -> bytes:
        """Return a small blob."""
        body = self._archive.read(_path(digest), max_bytes=MAX_DOCUMENT_BYTES)
        digest.verify(body)
        return body

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        return checked(self._archive.chunks(_path(descriptor.digest)), descriptor)

    def referrers(self, digest: Digest) -> Index:
        """Return the index under the tag that stands in for the referrers API."""
        found = find_named(self._index, fallback_tag(digest))
        return Index(()) if found is None else Index.parse(self.document(found.digest))

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return the manifest under the signature tag."""
        found = find_named(self._index, signature_tag(digest))
        return None if found is None else self.document(found.digest)


class OciArchiveWriter(StagedWriter):
    """Collects a layout and writes it as one tar, without clocks and owners."""

    def write_archive(self, layout: ImageLayout, out: IO[bytes]) -> None:
        """Write the layout file, the index, then the blobs by name."""
        first = [layout.directory / "oci-layout", layout.directory / "index.json"]
        blobs = sorted((layout.directory / "blobs").glob("*/*"))
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for file in (*first, *blobs):
                info = tarfile.TarInfo(file.relative_to(layout.directory).as_posix())
                info.size = file.stat().st_size
                with file.open("rb") as content:
                    archive.addfile(info, content)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
