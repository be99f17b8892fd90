"""One 512-byte tar header (POSIX ustar, GNU and old V7), fields cut out and checked, nothing interpreted."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import adler32

from enclave_cc.formats.tar.entry import TarError

BLOCK: Final = 512
# Mode, owner and group are one field here: a layer has few different ones, and they are read once each.
_FIELDS: Final = struct.Struct("100s24s12s12s8sc100s6s66x16s155s12x")
_OWNERSHIP: Final = struct.Struct("8s8s8s")
_BASE256_POSITIVE: Final = 0x80
_BASE256_NEGATIVE: Final = 0xFF
NO_DEVICE: Final = (0, 0)
_USTAR: Final = b"ustar\0"
# Numbers repeat from header to header; how many different ones are remembered.
_REMEMBERED: Final = 4096

# Headers whose data describe the next entry: of them only the size matters.
METADATA: Final = frozenset({b"x", b"g", b"L", b"K"})


class RawHeader(NamedTuple):
    """The fields that matter; extended headers are not yet applied."""

    typeflag: bytes
    size: int
    name: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link_name: bytes = b""
    device: tuple[int, int] = NO_DEVICE


def parse_header(block: bytes) -> RawHeader:
    """Check the checksum and read the fields; TarError if anything is malformed."""
    name, ownership, size, mtime, checksum, typeflag, link_name, magic, device, prefix = _FIELDS.unpack(block)
    # The checksum field itself counts as eight spaces.
    if _sum(block[:256]) + _sum(block[256:]) - _sum(checksum) + 8 * 0x20 != number(checksum):
        raise TarError("a header's checksum is wrong")
    if typeflag in METADATA:
        return RawHeader(typeflag, number(size))
    name = name.partition(b"\0")[0]
    if magic == _USTAR and prefix[0]:
        name = text(prefix) + b"/" + name
    target = text(link_name) if link_name[0] else b""
    numbers = (number(device[:8]), number(device[8:])) if typeflag in b"34" else NO_DEVICE
    return RawHeader(typeflag, number(size), name, *_ownership(ownership), number(mtime), target, numbers)


def _sum(half: bytes) -> int:
    """
    Add up the bytes of at most half a header.

    The lower half of Adler-32 is one plus the sum modulo 65521, which 256 bytes cannot reach: it is
    exact, and twenty times as fast as a loop over hundreds of thousands of headers.
    """
    return (adler32(half) & 0xFFFF) - 1


def text(field: bytes) -> bytes:
    """Cut a field at its first NUL."""
    return field.partition(b"\0")[0]


@lru_cache(_REMEMBERED)
def _ownership(fields: bytes) -> tuple[int, int, int]:
    """Read mode, owner and group."""
    mode, uid, gid = _OWNERSHIP.unpack(fields)
    return number(mode), number(uid), number(gid)


@lru_cache(_REMEMBERED)
def number(field: bytes) -> int:
    """Read an octal number, or GNU's base-256 form, which may be negative."""
    digits = field.strip(b" \0")
    if not digits:
        return 0
    first = field[0]
    if first == _BASE256_NEGATIVE:
        return int.from_bytes(field, "big", signed=True)
    if first & _BASE256_POSITIVE:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    # int() would take signs and underscores.
    if not digits.isdigit():
        raise TarError("a number in a header is malformed")
    try:
        return int(digits, 8)
    except ValueError as error:
        raise TarError("a number in a header is not octal") from error
