"""
An OCI layout directory: content-addressed blobs, and an index that gives manifests their names.

It is how images pass between this project's tools and others (``skopeo copy oci:…``). Blobs are
streamed, written under a temporary name and renamed, so that a blob that exists is complete; what is
read is compared with its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn, Self

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest, parse_manifest_or_index
from enclave_cc.tenant.places.checked import require_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REF_NAME: Final = "org.opencontainers.image.ref.name"
MAX_DOCUMENT_BYTES: Final = 8 << 20
_VERSION: Final = {"imageLayoutVersion": "1.0.0"}
_ALGORITHM: Final = "sha256"
# Tags that are made of a digest; containers' tools derive them, people do not choose them.
_ATTACHED: Final = re.compile(r"sha(?:256|384|512)-[0-9a-f]{64,128}(?:\.[a-z]+)?")


class ImageLayout:
    """One layout directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make an empty layout; the directory may exist, a layout in it may not."""
        if (directory / "oci-layout").exists():
            _refuse(f"{directory}: is a layout already")
        (directory / "blobs" / _ALGORITHM).mkdir(parents=True, exist_ok=True)
        (directory / "oci-layout").write_bytes(strict_json.canonical(_VERSION))
        layout = cls(directory)
        layout._write_index(Index(()))
        return layout

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a layout; raise ``InvalidInputError`` (image-layout-invalid) if it is none."""
        if not (directory / "oci-layout").is_file():
            _refuse(f"{directory}: has no oci-layout file")
        layout = cls(directory)
        layout.index()
        return layout

    def index(self) -> Index:
        """Return the layout's index."""
        with self._open("index.json") as stream:
            return Index.parse(stream.read(MAX_DOCUMENT_BYTES + 1))

    def find(self, name: str = "latest") -> Descriptor:
        """Return the manifest of a name; a layout with one image needs none."""
        found = find_named(self.index(), name)
        if found is None:
            _refuse(f"{self.directory}: has no image named {name}")
        return found

    def add_blob(
        self, chunks: Iterable[bytes], *, algorithm: str = _ALGORITHM, wanted: Digest | None = None
    ) -> tuple[Digest, int]:
        """Store a blob; return its digest and its size; raise ``RefusedError`` if another was wanted."""
        algorithm = algorithm if wanted is None else wanted.algorithm
        folder = self.directory / "blobs" / algorithm
        folder.mkdir(exist_ok=True)
        file, name = tempfile.mkstemp(dir=folder, prefix=".partial-")
        digest, size = hashlib.new(algorithm), 0
        try:
            with os.fdopen(file, "wb") as out:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
            stored = Digest(algorithm, digest.hexdigest())
            require_digest(stored, wanted)
            Path(name).chmod(0o644)
            Path(name).replace(folder / digest.hexdigest())
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        return stored, size

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob's file exists."""
        return (self.directory / "blobs" / digest.algorithm / digest.hex).is_file()

    def open_blob(self, digest: Digest) -> IO[bytes]:
        """Open a blob's file; nothing is compared."""
        return self._open(f"blobs/{digest.algorithm}/{digest.hex}")

    def read_document(self, digest: Digest) -> bytes:
        """Read a small blob and compare its digest."""
        with self.open_blob(digest) as stream:
            data = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            _refuse(f"{digest}: is too large for a document")
        digest.verify(data)
        return data

    def read_manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """Read the manifest or the index that a descriptor names."""
        return parse_manifest_or_index(self.read_document(descriptor.digest))

    def add_manifest(
        self,
        document: Manifest | Index,
        *,
        name: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Store a manifest or an index; a name makes it findable and takes the name from another."""
        digest, size = self.add_blob([document.to_bytes()])
        descriptor = Descriptor(document.media_type, digest, size, dict(annotations or {}))
        if name is not None:
            self.name(descriptor, name)
        return descriptor

    def name(self, descriptor: Descriptor, name: str) -> None:
        """Give a stored manifest a name."""
        self.name_all({name: descriptor})

    def name_all(self, descriptors: Mapping[str, Descriptor]) -> None:
        """Give several stored manifests their names at once."""
        others = [
            entry for entry in self.index().manifests if entry.annotations.get(REF_NAME) not in descriptors
        ]
        named = [
            Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, {REF_NAME: name})
            for name, descriptor in descriptors.items()
        ]
        self._write_index(Index((*others, *named)))

    def _open(self, name: str) -> IO[bytes]:
        """Open a file of somebody's directory; a pipe that nobody fills must not hold us up."""
        try:
            file = os.open(self.directory / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _error(str(error)) from error
        stream = os.fdopen(file, "rb") if stat.S_ISREG(os.fstat(file).st_mode) else None
        if stream is None:
            os.close(file)
            _refuse(f"{self.directory / name}: is no file")
        return stream

    def _write_index(self, index: Index) -> None:
        # A name that nobody can have prepared: a link would lead out of the directory.
        file, name = tempfile.mkstemp(dir=self.directory, prefix=".index.json.partial-")
        try:
            with os.fdopen(file, "wb") as out:
                out.write(index.to_bytes())
            Path(name).chmod(0o644)
            Path(name).replace(self.directory / "index.json")
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def find_named(index: Index, name: str) -> Descriptor | None:
    """Find the manifest of a name; where there is one image only, it answers to the default name too."""
    entries = index.manifests
    named = [entry for entry in entries if entry.annotations.get(REF_NAME) == name]
    if not named and name == "latest":
        named = _images(entries)
        if len(named) != 1:
            return None
    return named[-1] if named else None


def _images(entries: Sequence[Descriptor]) -> list[Descriptor]:
    """Leave out what is there for another manifest's sake: signatures and lists of referrers."""
    return [entry for entry in entries if not _ATTACHED.fullmatch(entry.annotations.get(REF_NAME, ""))]


def _error(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "image-layout-invalid", "the image layout cannot be read", stage=Stage.CONFIG, detail=detail
    )


def _refuse(detail: str) -> NoReturn:
    raise _error(detail)
