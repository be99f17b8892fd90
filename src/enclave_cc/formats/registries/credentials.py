"""What somebody may show a registry, and the keys under which container tools file it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.reference import Reference

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
# The key that the oldest of these tools wrote; its path is part of an API and not of a repository.
_DOCKER_HUB_API: Final = "index.docker.io/v1"
_SCHEMES: Final = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or a token instead; the repr shows the name only."""

    username: str = ""
    password: str = field(default="", repr=False)
    # Exchanged at the token service for a token of one repository (OAuth 2 refresh token).
    identity_token: str = field(default="", repr=False)
    # Shown to the registry as it is.
    registry_token: str = field(default="", repr=False)

    @property
    def has_password(self) -> bool:
        """Tell whether there is something for HTTP's basic authorization."""
        return bool(self.username and self.password)


def anonymous(_reference: Reference) -> Credentials | None:
    """Know no credentials for any image."""
    return None


def normal_key(key: str) -> str:
    """
    Write a file's key as ``registry[/repository]``.

    A key that begins with a scheme is a registry's address, whose path says nothing about
    repositories; Docker Hub has several names.
    """
    bare = key
    for scheme in _SCHEMES:
        bare = bare.removeprefix(scheme)
    bare = bare.strip("/")
    host, slash, path = bare.partition("/")
    host = host.lower()
    if host in _DOCKER_HUB_NAMES:
        host = DOCKER_HUB
    if bare != key.strip("/") or bare.startswith(_DOCKER_HUB_API):
        return host
    return f"{host}{slash}{path}"


def lookup_keys(reference: Reference) -> Iterator[str]:
    """Name the keys that cover an image, the most specific one first."""
    key = reference.name
    yield key
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key
