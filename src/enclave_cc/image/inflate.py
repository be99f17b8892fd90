"""
Decompression that never makes more than it was asked for.

Both decompressors are driven by output, a bounded piece at a time, so that a few bytes that stand
for gigabytes cost no memory; the caller counts what comes out. Several gzip members or zstd frames
in a row are one stream, as ``gzip -d`` and ``zstd -d`` read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard
from isal import isal_zlib

from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator

# One piece of output; also what a stage behind keeps in hand.
OUTPUT_BYTES: Final = 1 << 20
# Zstd's own tools refuse windows beyond this without being told otherwise.
_ZSTD_WINDOW_BYTES: Final = 128 << 20
# Window bits of 31 ask zlib's interface for the gzip format.
_GZIP_FORMAT: Final = 31
# The package's stub declares the class as a value.
_GZIP_ERROR: Final[type[Exception]] = isal_zlib.error  # type: ignore[assignment]


class CorruptStreamError(ValueError):
    """The bytes are not what the media type says."""


def inflate(chunks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """Decompress a stream; raise ``CorruptStreamError`` when it breaks off or is none."""
    match compression:
        case Compression.NONE:
            return chunks
        case Compression.GZIP:
            return _gunzip(chunks)
        case Compression.ZSTD:
            return _unzstd(chunks)


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    members = 0
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if member is None:
                    member = isal_zlib.decompressobj(_GZIP_FORMAT)
                    members += 1
                yield from _piece(member.decompress(rest, OUTPUT_BYTES))
                if member.eof:
                    rest, member = member.unused_data, None
                else:
                    rest = member.unconsumed_tail
        while member is not None and not member.eof:
            piece = member.decompress(b"", OUTPUT_BYTES)
            if not piece:
                raise CorruptStreamError("the gzip stream breaks off")
            yield piece
    except _GZIP_ERROR as error:
        raise CorruptStreamError(str(error)) from error
    if not members:
        raise CorruptStreamError("the gzip stream is empty")


def _piece(piece: bytes) -> Iterator[bytes]:
    if piece:
        yield piece


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    source = _ChunkReader(chunks)
    reader = decompressor.stream_reader(
        source,  # type: ignore[arg-type]  # reads nothing but ``read``; the stub asks for a whole file
        read_across_frames=True,
    )
    try:
        while piece := reader.read(OUTPUT_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise CorruptStreamError(str(error)) from error
    if not source.started:
        raise CorruptStreamError("the zstd stream is empty")


class _ChunkReader:
    """Chunks as a file, as far as a stream reader looks at one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.started = False

    def read(self, size: int) -> memoryview:
        """Return up to ``size`` bytes, none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest = memoryview(chunk)
            self.started = True
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
