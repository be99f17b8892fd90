"""
Image references, normalised as container tools normalise them.

Signature policies are looked up by these names, so two spellings of one image must become one
value here and nowhere else. A reference says where an image is asked for, never what it contains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.edge import foreign

if TYPE_CHECKING:
    from typing import NoReturn

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
_OFFICIAL: Final = "library"

# The distribution specification bounds the repository; the rest bounds what a regular expression sees.
MAX_REFERENCE_CHARS: Final = 1024
MAX_REPOSITORY_CHARS: Final = 255

_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]{{2,45}}\])(?::[0-9]{{1,5}})?"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY: Final = re.compile(_HOST)
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry, a repository in it, and a tag, a digest or both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = DEFAULT_TAG) -> Self:
        """
        Read ``[registry/]repository[:tag][@digest]``; raise ``InvalidInputError`` otherwise.

        Without tag and digest the reference takes ``default_tag``; None leaves it bare, which is
        how the names inside signatures are read.
        """
        if len(text) > MAX_REFERENCE_CHARS:
            _refuse("longer than any reference")
        rest, at, digest_text = text.partition("@")
        digest = _digest(digest_text) if at else None
        rest, tag = _split_tag(rest)
        registry, repository = _split_registry(rest)
        if tag is None and digest is None:
            tag = default_tag
        return cls(registry, repository, tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """Return ``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """Return what a registry is asked for: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or DEFAULT_TAG

    def with_digest(self, digest: Digest) -> Self:
        """Name one exact manifest in the same repository."""
        return replace(self, tag=None, digest=digest)

    def with_tag(self, tag: str) -> Self:
        """Name a tag in the same repository."""
        if not _TAG.fullmatch(tag):
            _refuse("malformed tag")
        return replace(self, tag=tag, digest=None)


def _split_tag(text: str) -> tuple[str, str | None]:
    """Cut the tag off: a colon after the last slash, so that a port stays with its host."""
    head, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, None
    if not _TAG.fullmatch(tag):
        _refuse("malformed tag")
    return head, tag


def _split_registry(text: str) -> tuple[str, str]:
    """Tell a registry from the first component of a repository, by the rule everybody uses."""
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:[")):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, text
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{_OFFICIAL}/{repository}"
    if not _REGISTRY.fullmatch(registry):
        _refuse("malformed registry")
    if len(repository) > MAX_REPOSITORY_CHARS or not _REPOSITORY.fullmatch(repository):
        _refuse("malformed repository")
    return registry.lower(), repository


def _digest(text: str) -> Digest:
    with foreign("reference-invalid", "the image reference is malformed", stage=Stage.REQUEST):
        return Digest.parse(text)


def _refuse(detail: str) -> NoReturn:
    raise InvalidInputError(
        "reference-invalid", "the image reference is malformed", stage=Stage.REQUEST, detail=detail
    )
