"""
The texts by which places are named on a command line.

``registry.example/team/app:v1``, ``oci:DIRECTORY[:NAME]``, ``oci-archive:FILE[:NAME]`` and
``docker-archive:FILE[:REFERENCE]``; as container tools have it, the path ends at the first colon. A
directory that exists may be named without its prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.reference import Reference

_DOCKER: Final = "docker://"


class PlaceKind(StrEnum):
    """The kinds of places; the value is the prefix."""

    REGISTRY = "docker"
    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


@dataclass(frozen=True, slots=True)
class Place:
    """A parsed name: a reference for a registry, a path and perhaps a name in it for everything else."""

    kind: PlaceKind
    reference: Reference | None = None
    path: Path = Path()
    name: str | None = None

    @property
    def in_registry(self) -> Reference:
        """Return the reference of a place in a registry."""
        if self.reference is None:
            raise TypeError("not a place in a registry")
        return self.reference

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a place; raise ``InvalidInputError`` (image-place-invalid, reference-invalid)."""
        if text.startswith(_DOCKER):
            return cls(PlaceKind.REGISTRY, Reference.parse(text.removeprefix(_DOCKER)))
        prefix, colon, rest = text.partition(":")
        if colon and prefix in {kind.value for kind in PlaceKind} - {PlaceKind.REGISTRY}:
            path, _, name = rest.partition(":")
            if not path or "\0" in path:
                raise _invalid(f"{prefix}: names no path")
            return cls(PlaceKind(prefix), path=Path(path), name=name or None)
        if text.startswith(("/", "./", "../", "~")) or (text and Path(text).is_dir()):
            return cls(PlaceKind.LAYOUT, path=Path(text))
        return cls(PlaceKind.REGISTRY, Reference.parse(text))


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "image-place-invalid", "an image cannot be named like this", stage=Stage.REQUEST, detail=detail
    )
