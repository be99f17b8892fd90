"""
The table ``[image.lookaside]`` of initdata: where simple signatures are kept, by scope.

A scope is written as in a signature policy, ``default`` stands for everything else. The place is no
authority: what lies there counts only once it verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from enclave_cc.formats.signatures.scopes import scope_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from enclave_cc.core.fields import Fields
    from enclave_cc.formats.oci.reference import Reference

MAX_SCOPES: Final = 64
DEFAULT: Final = "default"
_MAX_URL_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class LookasideSettings:
    """Base addresses by scope."""

    bases: Mapping[str, str]

    @classmethod
    def parse(cls, table: Fields, *, plain_http_hosts: Collection[str] = ()) -> Self:
        """Read the table; raise ``FieldError`` for an address that is neither https nor allowed by name."""
        names = tuple(table.names())
        if len(names) > MAX_SCOPES:
            raise table.error("lookaside", f"has more than {MAX_SCOPES} scopes")
        return cls({name: _base(table, name, plain_http_hosts) for name in names})

    def base_for(self, reference: Reference) -> str:
        """Return the address for the most specific scope of a reference, empty if there is none."""
        for name in scope_names(reference):
            if name in self.bases:
                return self.bases[name]
        return self.bases.get(DEFAULT, "")


NO_LOOKASIDE: Final = LookasideSettings({})


def _base(table: Fields, name: str, plain_http_hosts: Collection[str]) -> str:
    text = table.text(name)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise table.error(name, "is not a URL") from error
    plain = len(text) <= _MAX_URL_CHARS and not (parts.query or parts.fragment or "@" in parts.netloc)
    if not plain or not parts.netloc or not text.isascii() or not text.isprintable() or " " in text:
        raise table.error(name, "is not a plain URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.netloc in plain_http_hosts):
        raise table.error(name, "is not https://, and its host is not among insecure_http_registries")
    return text.rstrip("/")
