"""The names in a registry configuration: prefixes, locations, and what counts as a short name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.reference import Reference

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

# Any component would do; it makes a registry alone a reference that can be parsed.
_COMPONENT: Final = "x"


def is_short(text: str) -> bool:
    """Tell whether a name has no registry in front, by the rule everybody uses."""
    first, slash, _ = text.partition("/")
    return not slash or (first != "localhost" and not any(mark in first for mark in ".:["))


def require_location(fields: Fields, name: str, location: str) -> str:
    """Return ``registry[/repository…]``; raise ``FieldError`` for anything else."""
    if not _is_location(location):
        raise fields.error(name, "is not registry[:port][/repository…]")
    return location


def require_prefix(fields: Fields, prefix: str) -> None:
    """Require a location, one with a tag or a digest, or ``*.domain``; raise ``FieldError``."""
    wild = prefix.startswith("*.")
    text = prefix.removeprefix("*.")
    if wild and ("/" in text or ":" in text or not _is_location(f"x.{text}")):
        raise fields.error("prefix", "is not *.domain")
    if not wild and not _is_location(text) and not _is_full_name(text):
        raise fields.error("prefix", "is not registry[:port][/repository…], perhaps with a tag or a digest")


def _is_location(text: str) -> bool:
    parsed = _parse(f"{text}/{_COMPONENT}")
    return parsed is not None and parsed.name in {f"{text}/{_COMPONENT}", f"{text}/library/{_COMPONENT}"}


def _is_full_name(text: str) -> bool:
    parsed = _parse(text)
    return parsed is not None and str(parsed) == text


def _parse(text: str) -> Reference | None:
    try:
        return Reference.parse(text, default_tag=None)
    except InvalidInputError:
        return None
