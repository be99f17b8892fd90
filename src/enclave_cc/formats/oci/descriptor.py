"""A descriptor: the typed, sized, digested pointer that every OCI document is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.fields import Fields

# Sizes are signed 64-bit integers in the specification.
_MAX_SIZE: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, str]:
        """Return the object as it stands in an index."""
        members = {"architecture": self.architecture, "os": self.os}
        return members | ({"variant": self.variant} if self.variant else {})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where bytes are (by digest), how many there are, and what they are."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """
        Read a descriptor; raise ``ValueError`` or ``InvalidInputError`` from its members.

        ``urls`` and ``data`` are not looked at: bytes come from where this project fetches them.
        """
        size = fields.integer("size")
        if not 0 <= size <= _MAX_SIZE:
            raise fields.error("size", "is out of range")
        platform = fields.object("platform") if fields.has("platform") else None
        return cls(
            media_type=fields.text("mediaType"),
            digest=Digest.parse(fields.text("digest")),
            size=size,
            annotations=fields.text_map("annotations"),
            platform=None if platform is None else _platform(platform),
            artifact_type=fields.text("artifactType", default=""),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object as it stands in a manifest."""
        members: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        if self.platform is not None:
            members["platform"] = self.platform.to_json()
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        return members


def _platform(fields: Fields) -> Platform:
    return Platform(
        os=fields.text("os", default=""),
        architecture=fields.text("architecture", default=""),
        variant=fields.text("variant", default=""),
    )
