"""
A sparse file as chunks of one size, each of which is a hole, a run of blocks of the archive, or a copy.

That is all a file system on blocks can point at. A chunk becomes a copy if a segment begins or ends inside
it, or if its data do not begin at a block of the archive; copies are filled while the data flow past. The
size of the chunks is chosen so that the list of chunks and the copies are smallest together, which is
bounded.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from enclave_cc.formats.tar.entry import TarError
from enclave_cc.formats.tar.header import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.tar.sparse_map import Segment

# Lists of chunks and copies of one layer, held in memory until the image is complete.
MAX_SPARSE_BYTES: Final = 16 << 20
# One entry of the list, as it is stored.
CHUNK_POINTER_BYTES: Final = 4

# No archive has this many blocks: all of an image has less than 2^32.
HOLE: Final = 0xFFFFFFFF
COPY: Final = 0xFFFFFFFE

_MAX_CHUNK_BITS: Final = 21
# A list that is this short could not save anything by getting shorter.
_SHORT_LIST_BYTES: Final = 256


class _Piece(NamedTuple):
    """Bytes of the archive that are copied, and where to."""

    begin: int
    end: int
    place: int


class ChunkedFile:
    """
    The chunks of one sparse file; ``BLOCK << chunk_bits`` bytes each, the last one up to the file's end.

    ``blocks`` has for each chunk the number of its first block, counted from the first byte of the
    entry's data, or ``HOLE`` or ``COPY``. ``copies`` has the copied chunks one after the other, whole
    blocks, and is complete once the entry's data were fed to ``copy``.
    """

    __slots__ = ("_copied", "_pieces", "blocks", "chunk_bits", "copies")

    def __init__(self, size: int, segments: tuple[Segment, ...], *, max_bytes: int) -> None:
        """Raise ``TarError`` if that takes more than ``max_bytes``."""
        self.chunk_bits, cost = _best_chunk_bits(size, segments)
        if cost > max_bytes:
            raise TarError("the segments of sparse files are too many and too scattered")
        chunk = BLOCK << self.chunk_bits
        self.blocks = array("I", [HOLE]) * -(-size // chunk)
        self._pieces: list[_Piece] = []
        self._copied = 0
        copied = 0
        for place, segment in _with_places(segments):
            copied = self._map(segment, place, chunk, size, copied)
        self.copies = bytearray(_copied_bytes(size, chunk, self.blocks, copied))

    @property
    def cost_bytes(self) -> int:
        """Return how much is stored besides the data in the archive."""
        return CHUNK_POINTER_BYTES * len(self.blocks) + len(self.copies)

    def copy(self, data: bytes | bytearray | memoryview, base: int) -> bool:
        """Keep what is wanted of a piece that begins ``base`` bytes into the data; tell if more is wanted."""
        # They are in the order of the data, and a file may have more of them than data arrive at a time.
        limit = base + len(data)
        while self._copied < len(self._pieces):
            begin, end, place = self._pieces[self._copied]
            first, last = max(begin, base), min(end, limit)
            if first < last:
                self.copies[place + first - begin : place + last - begin] = data[first - base : last - base]
            if end > limit:
                return True
            self._copied += 1
        return False

    def _map(self, segment: Segment, place: int, chunk: int, size: int, copied: int) -> int:
        """Map a segment whose data begin at ``place``; return how many chunks are copies by now."""
        begin, end = segment.offset, segment.offset + segment.size
        first, last = _whole_chunks(segment, place, chunk, size)
        if first < last:
            start = (place + first * chunk - begin) // BLOCK
            step = chunk // BLOCK
            self.blocks[first:last] = array("I", range(start, start + (last - first) * step, step))
        for low, high in ((begin, min(end, first * chunk)), (max(begin, last * chunk), end)):
            if low < high:
                copied = self._copy_range(low, high, place + low - begin, chunk, copied)
        return copied

    def _copy_range(self, low: int, high: int, source: int, chunk: int, copied: int) -> int:
        """Take a range of the file into the copies."""
        first, last = low // chunk, -(-high // chunk)
        # The segment before may have begun the first chunk.
        slot = copied - 1 if self.blocks[first] == COPY else copied
        self.blocks[first:last] = array("I", [COPY]) * (last - first)
        self._pieces.append(_Piece(source, source + high - low, slot * chunk + low % chunk))
        return slot + last - first


def _with_places(segments: tuple[Segment, ...]) -> Iterator[tuple[int, Segment]]:
    """Yield each segment with where its data begin."""
    place = 0
    for segment in segments:
        yield place, segment
        place += segment.size


def _whole_chunks(segment: Segment, place: int, chunk: int, size: int) -> tuple[int, int]:
    """Return the first chunk that can lie in the archive and the one behind the last; equal if none can."""
    begin, end = segment.offset, segment.offset + segment.size
    if (place - begin) % BLOCK:
        return -(-end // chunk), -(-end // chunk)
    first = -(-begin // chunk)
    # The file's last chunk is as long as the file; the archive's padding fills its last block.
    last = -(-end // chunk) if end == size else end // chunk
    return first, max(first, last)


def _best_chunk_bits(size: int, segments: tuple[Segment, ...]) -> tuple[int, int]:
    """Return the exponent of the best chunk size, and what list and copies take with it."""
    bits = _common_bits(size, segments)
    best = (bits, _cost(size, segments, BLOCK << bits))
    while bits < _MAX_CHUNK_BITS and CHUNK_POINTER_BYTES * size > _SHORT_LIST_BYTES * (BLOCK << bits):
        bits += 1
        cost = _cost(size, segments, BLOCK << bits)
        if cost < best[1]:
            best = (bits, cost)
    return best


def _common_bits(size: int, segments: tuple[Segment, ...]) -> int:
    """Return the largest exponent without a copy, or 0: a smaller one is never better."""
    bounds = BLOCK << _MAX_CHUNK_BITS
    for begin, length in segments:
        bounds |= begin | (begin + length if begin + length != size else 0)
    return max((bounds & -bounds).bit_length() - BLOCK.bit_length(), 0)


def _cost(size: int, segments: tuple[Segment, ...], chunk: int) -> int:
    copied, previous = 0, -1
    for place, segment in _with_places(segments):
        begin, end = segment.offset, segment.offset + segment.size
        first, last = _whole_chunks(segment, place, chunk, size)
        for low, high in ((begin, min(end, first * chunk)), (max(begin, last * chunk), end)):
            if low < high:
                copied += -(-high // chunk) - max(low // chunk, previous + 1)
                previous = -(-high // chunk) - 1
    return CHUNK_POINTER_BYTES * -(-size // chunk) + copied * chunk


def _copied_bytes(size: int, chunk: int, blocks: array[int], copied: int) -> int:
    """Return the size of all copies; the last chunk of the file ends with the block that the file ends in."""
    if not copied or blocks[-1] != COPY:
        return copied * chunk
    return (copied - 1) * chunk + -(-(size - (len(blocks) - 1) * chunk) // BLOCK) * BLOCK
