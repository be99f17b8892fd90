"""
The texts by which places are named on a command line.

``registry.example/team/app:v1``, ``oci:DIRECTORY[:NAME]``, ``oci-archive:FILE[:NAME]`` and
``docker-archive:FILE[:REFERENCE]``; as container tools have it, the path ends at the first colon. A
directory that exists may be named without its prefix.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.reference import Reference

_DOCKER: Final = "docker://"
# Places of skopeo that nothing here reads. As names on Docker Hub they would fail late, and say nothing.
_FOREIGN: Final = frozenset({"containers-storage", "dir", "docker-daemon", "ostree", "sif", "tarball"})


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
    # Nobody said that it is a registry: neither a host nor a prefix.
    guessed: bool = False

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
        if colon and prefix in _FOREIGN:
            raise _invalid(f"{prefix}: is a kind of place that is not read or written here")
        # Not Path's methods: they raise for names that no file can have.
        if os.path.isfile(text):  # noqa: PTH113
            raise _invalid(f"{text} is a file: is it oci-archive:{text} or docker-archive:{text}?")
        if text.startswith(("/", "./", "../", "~")) or os.path.isdir(text):  # noqa: PTH112
            return cls(PlaceKind.LAYOUT, path=Path(text))
        reference = Reference.parse(text)
        return cls(PlaceKind.REGISTRY, reference, guessed=not text.startswith(f"{reference.registry}/"))


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "image-place-invalid", "an image cannot be named like this", stage=Stage.REQUEST, detail=detail
    )
