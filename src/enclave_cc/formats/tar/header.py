"""One 512-byte tar header (POSIX ustar, GNU and old V7), fields cut out and checked, nothing interpreted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from enclave_cc.formats.tar.entry import TarError

BLOCK: Final = 512
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM: Final = slice(148, 156)
_BASE256_POSITIVE: Final = 0x80
_BASE256_NEGATIVE: Final = 0xFF


@dataclass(slots=True)
class RawHeader:
    """The fields that matter, names still split and extended headers not yet applied."""

    name: bytes
    typeflag: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link_name: bytes
    device: tuple[int, int]


def parse_header(block: bytes) -> RawHeader:
    """Check the checksum and read the fields; TarError if anything is malformed."""
    (
        name, mode, uid, gid, size, mtime, checksum, typeflag, link_name,
        magic, _uname, _gname, major, minor, prefix, _padding,
    ) = _FIELDS.unpack(block)  # fmt: skip
    # The checksum field itself counts as eight spaces.
    if sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20 != number(checksum):
        raise TarError("a header's checksum is wrong")
    name = text(name)
    if magic[:6] == b"ustar\0" and prefix[0]:
        name = text(prefix) + b"/" + name
    device = (number(major), number(minor)) if typeflag in b"34" else (0, 0)
    return RawHeader(
        name=name,
        typeflag=typeflag,
        mode=number(mode),
        uid=number(uid),
        gid=number(gid),
        size=number(size),
        mtime=number(mtime),
        link_name=text(link_name),
        device=device,
    )


def text(field: bytes) -> bytes:
    """Cut a field at its first NUL."""
    return field.partition(b"\0")[0]


def number(field: bytes) -> int:
    """Read an octal number, or GNU's base-256 form, which may be negative."""
    first = field[0]
    if first == _BASE256_NEGATIVE:
        return int.from_bytes(field, "big", signed=True)
    if first & _BASE256_POSITIVE:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b" \0")
    if not digits:
        return 0
    # int() would take signs and underscores.
    if not digits.isdigit():
        raise TarError("a number in a header is malformed")
    try:
        return int(digits, 8)
    except ValueError as error:
        raise TarError("a number in a header is not octal") from error
