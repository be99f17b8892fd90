"""
Registry credentials of the owner: a resource of the broker, in the format of container tools' ``auth.json``.

Credential helpers are programs and therefore not run; entries without a password are skipped, as other
tools skip them.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.fields import Fields
    from enclave_cc.transport.registry_auth import Credentials

MAX_CREDENTIALS_BYTES: Final = 1 << 20
# The name under which container tools file Docker Hub.
_DOCKER_HUB: Final = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


def parse_credentials(data: bytes) -> Mapping[str, Credentials]:
    """Read user and password by registry host; raise ``InvalidInputError``."""
    with foreign("registry-credentials-invalid", "the registry credentials are malformed", stage=Stage.FETCH):
        entries = read_object(data, "auth.json", max_bytes=MAX_CREDENTIALS_BYTES).object("auths")
        found = {_host(name): _entry(entries.object(name)) for name in entries.names()}
    return {host: credentials for host, credentials in found.items() if credentials is not None}


def _host(name: str) -> str:
    if name in _DOCKER_HUB:
        return "docker.io"
    return name.removeprefix("https://").partition("/")[0]


def _entry(fields: Fields) -> Credentials | None:
    auth = fields.text("auth", default="")
    if not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise fields.error("auth", "is not base64 of text") from error
    if not colon:
        raise fields.error("auth", "has no password")
    return user, password
