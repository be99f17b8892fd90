"""
What ``docker save`` writes, as a place to read from.

The archive has configurations and layers but no manifests of the registry's kind, so one is made. A plain
layer must have the digest that its configuration gives as diff id; a compressed one is read once to find
its digest, and unpacked on the way to compare the diff id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.fields import Fields
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.image_config import MAX_CONFIG_BYTES, ImageConfig
from enclave_cc.formats.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest
from enclave_cc.formats.oci.media_types import OCI_CONFIG, Compression, LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.image.layers.inflate import CorruptStreamError, inflate
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.tenant.places.archive import Archive, archive_error
from enclave_cc.tenant.places.checked import checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST_FILE: Final = "manifest.json"
# ``docker save`` of everything on a machine; nobody has thousands.
MAX_IMAGES: Final = 1000


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of the archive: files of its configuration and layers, and its names."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


class DockerArchiveReader:
    """Reads one archive."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._archive = Archive(path)
        self._name = name
        self._documents: dict[Digest, bytes] = {}
        self._files: dict[Digest, str] = {}
        # By where a layer's data lies, so that a layer under several names is looked at once.
        self._layers: dict[tuple[int, Digest], Descriptor] = {}
        try:
            self._entries = _parse(self._archive.read(MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES))
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def resolve(self, name: str | None = None) -> Descriptor:
        """Make the manifest of a name; an archive with one image needs none."""
        entry = self._choose(name or self._name)
        body = self._archive.read(entry.config, max_bytes=MAX_CONFIG_BYTES)
        diff_ids = ImageConfig.parse(body).diff_ids
        if len(diff_ids) != len(entry.layers) or len(diff_ids) > DEFAULT_LIMITS.layers:
            raise archive_error(f"{len(entry.layers)} layers, and {len(diff_ids)} diff ids in {entry.config}")
        layers = tuple(
            self._layer(file, diff_id) for file, diff_id in zip(entry.layers, diff_ids, strict=True)
        )
        config = Descriptor(OCI_CONFIG, self._keep(body), len(body))
        manifest = Manifest(config, layers)
        made = manifest.to_bytes()
        return Descriptor(manifest.media_type, self._keep(made), len(made))

    def document(self, digest: Digest) -> bytes:
        """Return a manifest that was made, or a configuration."""
        try:
            return self._documents[digest]
        except KeyError:
            raise archive_error(f"{digest}: is missing") from None

    def open_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a layer as it lies in the archive."""
        file = self._files.get(descriptor.digest)
        if file is None:
            return checked([self.document(descriptor.digest)], descriptor)
        return checked(self._archive.chunks(file), descriptor)

    def referrers(self, digest: Digest) -> Index:
        """Return an empty index: the format has no such thing."""
        del digest
        return Index(())

    def signature_manifest(self, digest: Digest) -> bytes | None:
        """Return None: the format has no such thing."""
        del digest
        return None

    def _choose(self, name: str | None) -> _Entry:
        if name is None:
            if len(self._entries) != 1:
                names = ", ".join(text for entry in self._entries for text in entry.names[:1])
                raise archive_error(f"holds {len(self._entries)} images, so name one: {names[:512]}")
            return self._entries[0]
        wanted = Reference.parse(name)
        for entry in self._entries:
            if any(_same(text, wanted) for text in entry.names):
                return entry
        names = ", ".join(text for entry in self._entries for text in entry.names)
        raise archive_error(f"has no image named {name}, but: {names[:512] or 'one without a name'}")

    def _layer(self, file: str, diff_id: Digest) -> Descriptor:
        key = (self._archive.place_of(file), diff_id)
        if key not in self._layers:
            self._layers[key] = self._described(file, diff_id)
        descriptor = self._layers[key]
        self._files[descriptor.digest] = file
        return descriptor

    def _described(self, file: str, diff_id: Digest) -> Descriptor:
        compression = self._archive.compression(file)
        media_type = str(LayerMediaType(compression, encrypted=False))
        size = self._archive.size(file)
        if compression is Compression.NONE:
            return Descriptor(media_type, diff_id, size)
        return Descriptor(media_type, self._digest_of(file, compression, diff_id), size)

    def _digest_of(self, file: str, compression: Compression, diff_id: Digest) -> Digest:
        """Digest a compressed layer; what it unpacks to must be what the configuration says."""
        outer, inner, grown = hashlib.sha256(), hashlib.new(diff_id.algorithm), 0
        limit = DEFAULT_LIMITS.uncompressed_bytes_of(self._archive.size(file), arrived_bytes=1 << 62)

        def seen() -> Iterator[bytes]:
            for chunk in self._archive.chunks(file):
                outer.update(chunk)
                yield chunk

        try:
            for piece in inflate(seen(), compression):
                inner.update(piece)
                grown += len(piece)
                if grown > limit:
                    raise archive_error(f"{file}: grows beyond {limit} bytes")
        except CorruptStreamError as error:
            raise archive_error(f"{file}: {error}") from error
        if not diff_id.matches(inner.hexdigest()):
            raise _other_layer(diff_id, inner.hexdigest())
        return Digest("sha256", outer.hexdigest())

    def _keep(self, body: bytes) -> Digest:
        digest = Digest.of(body)
        self._documents[digest] = body
        return digest


def _parse(data: bytes) -> tuple[_Entry, ...]:
    try:
        entries = strict_json.loads(data, max_bytes=MAX_MANIFEST_BYTES)
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_IMAGES:
            raise archive_error(f"{MANIFEST_FILE}: is not a list of images")
        return tuple(_entry(Fields(entry, f"{MANIFEST_FILE}[{n}]")) for n, entry in enumerate(entries))
    except ValueError as error:
        raise archive_error(str(error)) from error


def _entry(fields: Fields) -> _Entry:
    return _Entry(fields.text("Config"), fields.texts("Layers"), fields.texts("RepoTags"))


def _same(text: str, wanted: Reference) -> bool:
    try:
        return Reference.parse(text) == wanted
    except InvalidInputError:
        return False


def _other_layer(diff_id: Digest, actual: str) -> RefusedError:
    found = f"{diff_id.algorithm}:{actual}"
    return RefusedError(
        "diff-id-mismatch",
        "a layer's content is not what the image's configuration says",
        stage=Stage.VERIFY,
        findings=(Finding("image.layer.diff-id", Outcome.FAILED, str(diff_id), found),),
    )
