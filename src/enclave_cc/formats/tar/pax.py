"""PAX extended header records (POSIX.1-2017, pax, "Extended Header"), and what of them changes an entry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.tar.entry import MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES, TarError

if TYPE_CHECKING:
    from collections.abc import Mapping

XATTR_PREFIX: Final = b"SCHILY.xattr."
_SPARSE_PREFIX: Final = b"GNU.sparse."
# A record's length has at most this many digits: records are bounded by the metadata limit of the scanner.
_MAX_LENGTH_DIGITS: Final = 8
_DECIMAL: Final = re.compile(rb"[0-9]{1,20}")
_TIME: Final = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_NS_DIGITS: Final = 9
_NS_PER_S: Final = 10**_NS_DIGITS
# Keys that change an entry; in a global header they change every later one, for some readers.
_EFFECTIVE: Final = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """Read records ``<length> <key>=<value><newline>``; the last one of a key counts."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + _MAX_LENGTH_DIGITS + 1)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise TarError("a PAX record has no length")
        end = position + int(digits)
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not separator or not key:
            raise TarError("a PAX record is malformed")
        records[key] = value
        position = end
    if _SPARSE_PREFIX in data and any(key.startswith(_SPARSE_PREFIX) for key in records):
        raise TarError("sparse files are not supported: write the layer without them")
    return records


def refuse_effective(records: Mapping[bytes, bytes]) -> None:
    """Refuse a global header that would change entries: readers differ in whether they obey it."""
    if any(key in _EFFECTIVE or key.startswith(XATTR_PREFIX) for key in records):
        raise TarError("a global PAX header changes entries")


def xattrs(records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Pick the extended attributes, names without their prefix."""
    found = {
        key[len(XATTR_PREFIX) :]: value for key, value in records.items() if key.startswith(XATTR_PREFIX)
    }
    for name, value in found.items():
        if not 0 < len(name) <= MAX_XATTR_NAME_BYTES or b"\0" in name or len(value) > MAX_XATTR_VALUE_BYTES:
            raise TarError("an extended attribute is out of bounds")
    return found


def decimal(value: bytes) -> int:
    """Read an unsigned decimal number."""
    if not _DECIMAL.fullmatch(value):
        raise TarError("a PAX number is malformed")
    return int(value)


def time(value: bytes) -> tuple[int, int]:
    """Read a decimal time as whole seconds, rounded down, and nanoseconds; finer digits are cut off."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise TarError("a PAX time is malformed")
    sign, seconds, fraction = match.groups(b"")
    total_ns = int(seconds) * _NS_PER_S + int(fraction[:_NS_DIGITS].ljust(_NS_DIGITS, b"0"))
    return divmod(-total_ns if sign else total_ns, _NS_PER_S)
