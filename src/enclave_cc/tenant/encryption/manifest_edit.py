"""
What encrypting and decrypting change in manifests and indexes, and nothing else.

Docker's media types become OCI's, since Docker has none for encrypted layers; the former type is noted
beside it, so that decrypting can give it back. Members that hold content in another form go: data that is
embedded in a descriptor, and addresses where a plain layer can be had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.formats.oci.manifest import MAX_MANIFEST_BYTES
from enclave_cc.formats.oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)
from enclave_cc.tenant.styled_json import StyledJson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enclave_cc.core.digest import Digest

FORMER_TYPE: Final = "dev.enclave-cc.former-media-type"
# Of the configuration before it was labelled.
FORMER_DIGEST: Final = "dev.enclave-cc.former-digest"
_OCI_TYPES: Final = {DOCKER_MANIFEST: OCI_MANIFEST, DOCKER_LIST: OCI_INDEX, DOCKER_CONFIG: OCI_CONFIG}
_OTHER_FORMS: Final = ("data", "urls")

Members = dict[str, object]


class DocumentEdit:
    """One manifest or index, which was parsed as such before."""

    def __init__(self, body: bytes) -> None:
        self._styled = StyledJson.parse(
            body,
            max_bytes=MAX_MANIFEST_BYTES,
            code="manifest-invalid",
            summary="the image manifest is malformed",
        )

    def to_bytes(self) -> bytes:
        """Write the document as it is now."""
        return self._styled.to_bytes()

    def use_oci_type(self) -> None:
        """Give the document itself OCI's media type."""
        use_oci_type(self._styled.members)

    def restore_type(self) -> None:
        """Give the document its former media type back."""
        restore_type(self._styled.members)

    @property
    def media_type(self) -> str:
        """Return the document's media type; a document may leave it out, and then is OCI's."""
        default = OCI_INDEX if "manifests" in self._styled.members else OCI_MANIFEST
        return str(self._styled.members.get("mediaType") or default)

    @property
    def config(self) -> Members:
        """Return the configuration's descriptor."""
        config = self._styled.members["config"]
        return config if isinstance(config, dict) else {}

    @property
    def layers(self) -> list[Members]:
        """Return the layers' descriptors."""
        return _objects(self._styled.members["layers"])

    @property
    def entries(self) -> list[Members]:
        """Return an index's descriptors."""
        return _objects(self._styled.members["manifests"])

    def keep_entries(self, positions: Iterable[int]) -> None:
        """Drop the entries of an index that are not at one of these positions."""
        entries = self.entries
        self._styled.members["manifests"] = [entries[position] for position in positions]


def point_to(descriptor: Members, digest: Digest, size: int) -> None:
    """Let a descriptor name other bytes."""
    descriptor["digest"], descriptor["size"] = str(digest), size
    for name in _OTHER_FORMS:
        descriptor.pop(name, None)


def use_oci_type(members: Members) -> None:
    """Replace a media type of Docker's and note it."""
    former = members.get("mediaType")
    oci = _OCI_TYPES.get(former) if isinstance(former, str) else None
    if oci is not None and isinstance(former, str):
        set_type(members, oci, former)


def set_type(members: Members, media_type: str, former: str) -> None:
    """Replace a media type and note what it was."""
    members["mediaType"] = media_type
    annotate(members, {FORMER_TYPE: former})


def restore_type(members: Members, default: str | None = None) -> None:
    """Give the noted media type back, or the given one where nothing was noted."""
    former = take_annotations(members, [FORMER_TYPE]).get(FORMER_TYPE, default)
    if former is not None:
        members["mediaType"] = former


def annotate(members: Members, annotations: Mapping[str, str]) -> None:
    """Add annotations."""
    present = members.get("annotations")
    members["annotations"] = {**(present if isinstance(present, dict) else {}), **annotations}


def take_annotations(members: Members, names: Iterable[str]) -> dict[str, str]:
    """Remove annotations and return those that were there; no empty object stays behind."""
    present = members.get("annotations")
    if not isinstance(present, dict):
        return {}
    taken = {name: str(present.pop(name)) for name in names if name in present}
    if not present:
        del members["annotations"]
    return taken


def _objects(value: object) -> list[Members]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
