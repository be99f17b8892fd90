"""
The ``auth.json`` of container tools and the ``config.json`` of Docker: one format, many hands.

Entries without anything usable are skipped, as those tools skip them: next to a credential helper
they are the rule. Helpers are named here and run, if at all, elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Self, TypeVar

from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.registries.credentials import Credentials, lookup_keys, normal_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from enclave_cc.core.fields import Fields
    from enclave_cc.formats.oci.reference import Reference

MAX_AUTH_FILE_BYTES: Final = 1 << 20

# It goes into a header as it is.
_TOKEN: Final = re.compile(r"[!-~]*")

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class AuthFile:
    """Credentials and helpers by normal key."""

    entries: Mapping[str, Credentials] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    default_helper: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the JSON text; raise ``InvalidInputError`` (registry-credentials-invalid)."""
        with invalid_credentials():
            return cls.read(read_object(data, "auth.json", max_bytes=MAX_AUTH_FILE_BYTES))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the parsed object; raise ``FieldError``."""
        auths = fields.object("auths")
        found = {name: _entry(auths.object(name)) for name in auths.names()}
        usable = {name: entry for name, entry in found.items() if entry is not None}
        return cls(
            _by_normal_key(usable),
            _by_normal_key(fields.text_map("credHelpers")),
            fields.text("credsStore", default=""),
        )

    def find(self, reference: Reference) -> Credentials | None:
        """Return the entry with the longest key that covers an image."""
        return next((self.entries[key] for key in lookup_keys(reference) if key in self.entries), None)

    def helper_for(self, reference: Reference) -> str:
        """Name the helper that keeps the credentials of an image's registry, "" if there is none."""
        keys = lookup_keys(reference)
        return next((self.helpers[key] for key in keys if key in self.helpers), self.default_helper)


def invalid_credentials() -> AbstractContextManager[None]:
    """Turn every complaint of the parsers inside into ``registry-credentials-invalid``."""
    return foreign(
        "registry-credentials-invalid", "the registry credentials are malformed", stage=Stage.FETCH
    )


def _by_normal_key(values: Mapping[str, _Value]) -> dict[str, _Value]:
    """File values by normal key; a key that is normal already wins over one that becomes equal to it."""
    filed = {normal_key(key): value for key, value in values.items()}
    return filed | {key: value for key, value in values.items() if normal_key(key) == key}


def _entry(fields: Fields) -> Credentials | None:
    entry = Credentials(
        username=fields.text("username", default=""),
        password=fields.text("password", default=""),
        identity_token=fields.text("identitytoken", default=""),
        registry_token=fields.text("registrytoken", default=""),
    )
    if not _TOKEN.fullmatch(entry.registry_token):
        raise fields.error("registrytoken", "has characters that no header can carry")
    auth = fields.text("auth", default="")
    if auth:
        username, password = _decode(fields, auth)
        entry = replace(entry, username=username, password=password)
    usable = entry.has_password or entry.identity_token or entry.registry_token
    return entry if usable else None


def _decode(fields: Fields, auth: str) -> tuple[str, str]:
    """Read base64 of ``user:password``; some writers end the password with NULs or a line end."""
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise fields.error("auth", "is not base64 of text") from error
    if not colon:
        raise fields.error("auth", "has no password")
    return user, password.strip("\r\n\0")
