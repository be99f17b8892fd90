"""
Where the data of a sparse file belong: the four ways in which tar archives say so.

The old GNU format keeps a table in the header and in blocks behind it; PAX versions 0.0 and 0.1 in
records, version 1.0 as text in front of the data (GNU tar manual, "Storing Sparse Files"). In all of them
the segments' bytes follow each other without gaps, as every reader but GNU tar's takes them; archivers
write segments of whole blocks, for which that makes no difference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from enclave_cc.formats.tar.entry import TarError
from enclave_cc.formats.tar.header import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX: Final = b"GNU.sparse."
NAME: Final = b"GNU.sparse.name"
MAP: Final = b"GNU.sparse.map"
OFFSET: Final = b"GNU.sparse.offset"
NUMBYTES: Final = b"GNU.sparse.numbytes"
# The text of a map is bounded as other metadata are, and holds about this many segments.
MAX_SEGMENTS: Final = 1 << 16
MAX_MAP_BYTES: Final = 1 << 20

_MAJOR: Final = b"GNU.sparse.major"
_MINOR: Final = b"GNU.sparse.minor"
_COUNT: Final = b"GNU.sparse.numblocks"
_SIZES: Final = (b"GNU.sparse.size", b"GNU.sparse.realsize")
_IN_RECORDS: Final = ((b"", b""), (b"0", b"0"), (b"0", b"1"))
_IN_DATA: Final = (b"1", b"0")
# 63 bits, as in the readers of the container world.
_DECIMAL: Final = re.compile(rb"[0-9]{1,18}")

# In an old header and in a block behind it: the table, whether another block follows, and the file's size.
_OLD_TABLE: Final = slice(386, 482)
_OLD_MORE: Final = 482
_OLD_SIZE: Final = slice(483, 495)
_OLD_MAGIC: Final = slice(257, 265)
_MORE_TABLE: Final = slice(0, 504)
_MORE_MORE: Final = 504
_NUMBER_BYTES: Final = 12


class Segment(NamedTuple):
    """Data of a file, from ``offset`` in it; what no segment covers is zeros."""

    offset: int
    size: int


class MapReader(Protocol):
    """A map that comes in blocks of its own."""

    @property
    def stored_bytes(self) -> int:
        """Return how much of the entry's data the map took so far."""

    def add(self, block: bytes) -> list[Segment] | None:
        """Take the next block; return the map when it is complete."""


def is_sparse(records: Mapping[bytes, bytes]) -> bool:
    """Tell whether extended records say anything about sparseness."""
    return any(key.startswith(PREFIX) for key in records)


def map_is_in_data(records: Mapping[bytes, bytes]) -> bool:
    """Tell version 1.0 from the older ones; raise ``TarError`` for any other."""
    version = (records.get(_MAJOR, b""), records.get(_MINOR, b""))
    if version != _IN_DATA and version not in _IN_RECORDS:
        raise TarError("a sparse file is of an unknown version")
    return version == _IN_DATA


def real_size(records: Mapping[bytes, bytes]) -> int:
    """Return the size of the file with its holes."""
    for key in _SIZES:
        if records.get(key):
            return _decimal(records[key])
    raise TarError("a sparse file has no size")


def map_in_records(records: Mapping[bytes, bytes]) -> list[Segment]:
    """Read the map of versions 0.0 (after ``joined``) and 0.1."""
    tokens = records.get(MAP, b"").split(b",") if records.get(MAP) else []
    if len(tokens) > 2 * MAX_SEGMENTS:
        raise TarError("a sparse file has too many segments")
    if len(tokens) != 2 * _decimal(records.get(_COUNT, b"")):
        raise TarError("a sparse map has another length than announced")
    return _pairs(tokens)


def joined(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write the repeated records of version 0.0 as the one record of version 0.1."""
    if any(key != (NUMBYTES if place % 2 else OFFSET) for place, (key, _) in enumerate(pairs)):
        raise TarError("the records of a sparse map are out of order")
    return b",".join(value for _, value in pairs)


class MapInData:
    """Reads the map of version 1.0, block by block; whole blocks are its last padding."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._lines = 0
        self._wanted = 1

    @property
    def stored_bytes(self) -> int:
        """Return how much of the entry's data the map took so far."""
        return len(self._text)

    def add(self, block: bytes) -> list[Segment] | None:
        """Take the next block; return the map when it is complete."""
        if len(self._text) + len(block) > MAX_MAP_BYTES:
            raise TarError("a sparse map is too long")
        self._text += block
        self._lines += block.count(b"\n")
        if self._wanted == 1 and self._lines:
            count = _decimal(bytes(self._text.partition(b"\n")[0]))
            if count > MAX_SEGMENTS:
                raise TarError("a sparse file has too many segments")
            self._wanted += 2 * count
        if self._lines < self._wanted:
            return None
        return _pairs(bytes(self._text).split(b"\n")[1 : self._wanted])


class OldMap:
    """Reads the table of the old format: in the header, then block by block as long as more follow."""

    # The blocks lie in front of the entry's data and do not count as such.
    stored_bytes: Final = 0

    def __init__(self, header: bytes) -> None:
        """Raise ``TarError`` if the header is another archiver's, which uses the type in another way."""
        if header[_OLD_MAGIC] != b"ustar  \0":
            raise TarError("a sparse file is of an unknown version")
        self.size = number(header[_OLD_SIZE])
        self.segments = list(_old_segments(header[_OLD_TABLE]))
        self.is_complete = not header[_OLD_MORE]

    def add(self, block: bytes) -> list[Segment] | None:
        """Take the next block; return the map when it is complete."""
        self.segments += _old_segments(block[_MORE_TABLE])
        if len(self.segments) > MAX_SEGMENTS:
            raise TarError("a sparse file has too many segments")
        return None if block[_MORE_MORE] else self.segments


def _old_segments(table: bytes) -> Iterator[Segment]:
    for start in range(0, len(table), 2 * _NUMBER_BYTES):
        offset = table[start : start + _NUMBER_BYTES]
        if not offset[0]:
            return
        yield Segment(number(offset), number(table[start + _NUMBER_BYTES : start + 2 * _NUMBER_BYTES]))


def check(segments: Sequence[Segment], *, size: int, stored: int) -> tuple[Segment, ...]:
    """
    Return the segments that have data, neighbours joined; raise ``TarError`` if they do not fit.

    They must be in order, apart, inside the file, and together exactly the data that are stored.
    """
    kept: list[Segment] = []
    end = total = 0
    for segment in segments:
        if segment.size < 0 or segment.offset < end or segment.offset + segment.size > size:
            raise TarError("the segments of a sparse file overlap or leave it")
        if not segment.size:
            continue
        if kept and segment.offset == end:
            kept[-1] = Segment(kept[-1].offset, kept[-1].size + segment.size)
        else:
            kept.append(segment)
        end = segment.offset + segment.size
        total += segment.size
    if total != stored:
        raise TarError("the segments of a sparse file are not its data")
    return tuple(kept)


def _pairs(tokens: Sequence[bytes]) -> list[Segment]:
    numbers = [_decimal(token) for token in tokens]
    return [Segment(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text):
        raise TarError("a number of a sparse file is malformed")
    return int(text)
