"""
Manifests and indexes: what belongs together as one image, and which image fits a platform.

One body has exactly one meaning: a document that could be read both as a manifest and as an
index is refused, and so is one whose declared type disagrees with its members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.oci.media_types import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST
from enclave_cc.formats.oci.platform_match import distance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.oci.descriptor import Platform

# The distribution specification lets registries refuse more than 4 MiB, so nobody publishes more.
MAX_MANIFEST_BYTES: Final = 4 << 20

_SCHEMA_VERSION: Final = 2
_DOCKER_V1: Final = 1
_SUMMARY: Final = "the image manifest is malformed"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers, lowest first; or an artifact that refers to a subject."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a manifest; raise ``InvalidInputError`` (manifest-invalid) otherwise."""
        with foreign("manifest-invalid", _SUMMARY, stage=Stage.FETCH):
            fields = _document(data)
            if fields.has("manifests"):
                raise fields.error("manifests", "does not belong into a manifest")
            return cls(
                config=Descriptor.read(fields.object("config")),
                layers=_descriptors(fields, "layers"),
                media_type=_media_type(fields, OCI_MANIFEST, MANIFEST_TYPES),
                annotations=fields.text_map("annotations"),
                subject=Descriptor.read(fields.object("subject")) if fields.has("subject") else None,
                artifact_type=fields.text("artifactType", default=""),
            )

    def to_bytes(self) -> bytes:
        """Write the manifest, always the same bytes for the same value."""
        members: dict[str, object] = {
            "schemaVersion": _SCHEMA_VERSION,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.subject is not None:
            members["subject"] = self.subject.to_json()
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        return strict_json.canonical(members)


@dataclass(frozen=True, slots=True)
class Index:
    """Several images for several platforms under one name."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an index; raise ``InvalidInputError`` (manifest-invalid) otherwise."""
        with foreign("manifest-invalid", _SUMMARY, stage=Stage.FETCH):
            fields = _document(data)
            for name in ("config", "layers"):
                if fields.has(name):
                    raise fields.error(name, "does not belong into an index")
            return cls(
                manifests=_descriptors(fields, "manifests"),
                media_type=_media_type(fields, OCI_INDEX, INDEX_TYPES),
                annotations=fields.text_map("annotations"),
            )

    def select(self, platform: Platform) -> Descriptor:
        """
        Choose the manifest (or index) for a platform; raise ``InvalidInputError`` if there is none.

        The nearest variant wins, then the first entry. Where no entry fits, a single one that says nothing
        about its platform does, as its configuration will say it.
        """
        images = [entry for entry in self.manifests if entry.media_type in MANIFEST_TYPES | INDEX_TYPES]
        fitting = [
            (apart, number, entry)
            for number, entry in enumerate(images)
            if entry.platform is not None and (apart := distance(platform, entry.platform)) is not None
        ]
        if fitting:
            return min(fitting, key=itemgetter(0, 1))[2]
        silent = [entry for entry in images if entry.platform is None and not entry.artifact_type]
        if len(silent) == 1:
            return silent[0]
        offered = ", ".join(str(entry.platform) for entry in self.manifests[:32])
        raise InvalidInputError(
            "image-platform-missing",
            "the image exists for other platforms only",
            stage=Stage.RESOLVE,
            detail=f"wanted {platform}, offered {offered or 'nothing'}",
        )

    def to_bytes(self) -> bytes:
        """Write the index, always the same bytes for the same value."""
        members: dict[str, object] = {
            "schemaVersion": _SCHEMA_VERSION,
            "mediaType": self.media_type,
            "manifests": [entry.to_json() for entry in self.manifests],
        }
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        return strict_json.canonical(members)


def parse_manifest_or_index(data: bytes) -> Manifest | Index:
    """Read whichever of the two a body is, by its members; raise ``InvalidInputError`` otherwise."""
    with foreign("manifest-invalid", _SUMMARY, stage=Stage.FETCH):
        is_index = _document(data).has("manifests")
    return Index.parse(data) if is_index else Manifest.parse(data)


def _document(data: bytes) -> Fields:
    fields = read_object(data, "manifest", max_bytes=MAX_MANIFEST_BYTES)
    version = fields.integer("schemaVersion")
    if version == _DOCKER_V1:
        raise fields.error(
            "schemaVersion", "is 1, Docker's old format: push the image again with a current tool"
        )
    if version != _SCHEMA_VERSION:
        raise fields.error("schemaVersion", "is not 2")
    return fields


def _media_type(fields: Fields, default: str, allowed: frozenset[str]) -> str:
    media_type = fields.text("mediaType", default=default)
    if media_type not in allowed:
        raise fields.error("mediaType", "does not fit the document")
    return media_type


def _descriptors(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    if not fields.has(name):
        raise fields.error(name, "is missing")
    return tuple(
        Descriptor.read(Fields(entry, f"manifest.{name}[{number}]"))
        for number, entry in enumerate(fields.array(name))
    )
