"""How TCB information and enclave identities write numbers, times and byte strings in JSON."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.fields import Fields
from enclave_cc.formats.dcap.collateral import MAX_SIGNED_TEXT_CHARS

if TYPE_CHECKING:
    from enclave_cc.core.fields import JsonValue

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MAX_DEPTH: Final = 8
# Intel lists some tens of levels and advisories; a multiple of that is room enough.
_MAX_ADVISORIES: Final = 256
_MAX_ADVISORY_CHARS: Final = 64
MAX_TCB_LEVELS: Final = 256


def load(text: str, where: str) -> Fields:
    """Read a signed text as an object; FieldError or InvalidJsonError."""
    return Fields(strict_json.loads(text, max_bytes=MAX_SIGNED_TEXT_CHARS, max_depth=_MAX_DEPTH), where)


def time(fields: Fields, name: str) -> dt.datetime:
    """Read a time in the one form that Intel serves (UTC, seconds, Z)."""
    text = fields.text(name)
    if not _TIME.fullmatch(text):
        raise fields.error(name, "is not a UTC time")
    try:
        return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise fields.error(name, "is not a UTC time") from error


def octets(fields: Fields, name: str, length: int) -> bytes:
    """Read `length` bytes in hexadecimal."""
    text = fields.text(name)
    if len(text) != 2 * length or not re.fullmatch(r"[0-9a-fA-F]*", text):
        raise fields.error(name, f"is not {length} bytes in hexadecimal")
    return bytes.fromhex(text)


def bounded(fields: Fields, name: str, maximum: int) -> int:
    """Read an integer between 0 and `maximum`."""
    value = fields.integer(name)
    if not 0 <= value <= maximum:
        raise fields.error(name, "is out of range")
    return value


def advisories(fields: Fields) -> tuple[str, ...]:
    """Read the advisory ids of a TCB level; absent means none."""
    ids = fields.texts("advisoryIDs")
    if len(ids) > _MAX_ADVISORIES or any(len(advisory) > _MAX_ADVISORY_CHARS for advisory in ids):
        raise fields.error("advisoryIDs", "are too many or too long")
    return ids


def levels(fields: Fields) -> list[JsonValue]:
    """Read the list of TCB levels, still raw; an empty list is refused."""
    values = fields.array("tcbLevels")
    if not 1 <= len(values) <= MAX_TCB_LEVELS:
        raise fields.error("tcbLevels", "is empty or too long")
    return values
