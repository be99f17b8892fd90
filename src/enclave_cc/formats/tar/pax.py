"""PAX extended header records (POSIX.1-2017, pax, "Extended Header"), and what of them changes an entry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.tar import sparse_map
from enclave_cc.formats.tar.entry import (
    MAX_XATTR_NAME_BYTES,
    MAX_XATTR_VALUE_BYTES,
    NO_XATTRS,
    TarError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

XATTR_PREFIX: Final = b"SCHILY.xattr."
SPARSE_NAME: Final = sparse_map.NAME
# Repeated, in sparse files of version 0.0: the one place where a second record of a key adds to the first.
_SPARSE_PAIR: Final = (sparse_map.OFFSET, sparse_map.NUMBYTES)
# A record's length has at most this many digits: records are bounded by the metadata limit of the scanner.
_MAX_LENGTH_DIGITS: Final = 8
_DECIMAL: Final = re.compile(rb"[0-9]{1,20}")
_TIME: Final = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_NS_DIGITS: Final = 9
# Times that need no care: positive, and far from any bound.
_PLAIN_DIGITS: Final = 12
_NS_PER_S: Final = 10**_NS_DIGITS
# Keys that change an entry; in a global header they change every later one, for some readers.
_EFFECTIVE: Final = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})
_EFFECTIVE_PREFIXES: Final = (XATTR_PREFIX, sparse_map.PREFIX)


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """
    Read records ``<length> <key>=<value><newline>``; the last one of a key counts.

    The map of a sparse file in repeated records becomes the single record that replaced them.
    """
    records: dict[bytes, bytes] = {}
    pairs: list[tuple[bytes, bytes]] = []
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
        if key in _SPARSE_PAIR:
            pairs.append((key, value))
        else:
            records[key] = value
        position = end
    if pairs:
        if sparse_map.MAP in records:
            raise TarError("a sparse file has two maps")
        records[sparse_map.MAP] = sparse_map.joined(pairs)
    return records


def refuse_effective(records: Mapping[bytes, bytes]) -> None:
    """Refuse a global header that would change entries: readers differ in whether they obey it."""
    if any(key in _EFFECTIVE or key.startswith(_EFFECTIVE_PREFIXES) for key in records):
        raise TarError("a global PAX header changes entries")


def xattrs(records: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """
    Pick the extended attributes, names without their prefix.

    What other archivers write beside them (``LIBARCHIVE.xattr``, ``RHT.security``) is left alone, as
    containerd leaves it.
    """
    found = {
        key[len(XATTR_PREFIX) :]: value for key, value in records.items() if key.startswith(XATTR_PREFIX)
    }
    if not found:
        return NO_XATTRS
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
    whole, _, rest = value.partition(b".")
    if whole.isdigit() and (rest or b"0").isdigit() and len(whole) <= _PLAIN_DIGITS:
        return int(whole), int(rest[:_NS_DIGITS].ljust(_NS_DIGITS, b"0"))
    match = _TIME.fullmatch(value)
    if match is None:
        raise TarError("a PAX time is malformed")
    sign, seconds, fraction = match.groups(b"")
    total_ns = int(seconds) * _NS_PER_S + int(fraction[:_NS_DIGITS].ljust(_NS_DIGITS, b"0"))
    return divmod(-total_ns if sign else total_ns, _NS_PER_S)
