"""
Decompression that never makes more than it was asked for.

Both decompressors are driven by output: they fill the caller's buffer, so that a few bytes that
stand for gigabytes cost no memory, and no piece is allocated. Several gzip members or zstd frames in
a row are one stream, as ``gzip -d`` and ``zstd -d`` read them.
"""

from __future__ import annotations

from gzip import BadGzipFile
from typing import TYPE_CHECKING, Final, Protocol

import zstandard
from isal import isal_zlib

from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator

# A piece of output, for those who do not bring a buffer of their own.
OUTPUT_BYTES: Final = 1 << 20
# How much compressed data a decompressor asks for at a time.
_INPUT_BYTES: Final = 256 << 10
# Zstd's own tools refuse windows beyond this without being told otherwise.
_ZSTD_WINDOW_BYTES: Final = 128 << 20
# The package's stub declares the class as a value.
_GZIP_ERROR: Final[type[Exception]] = isal_zlib.error  # type: ignore[assignment]


class CorruptStreamError(ValueError):
    """The bytes are not what the media type says."""


class _Reader(Protocol):
    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer as far as there is something, 0 at the end."""


class Inflater:
    """A compressed stream, given as chunks that are used before the next one is asked for, as plain bytes."""

    def __init__(self, chunks: Iterator[bytes | memoryview], compression: Compression) -> None:
        self._source = _ChunkReader(chunks)
        self._compression = compression
        self._reader = _reader(self._source, compression)

    def readinto(self, buffer: memoryview) -> int:
        """
        Fill a buffer with up to its size of plain bytes; return how many, 0 at the end.

        Raises ``CorruptStreamError`` when the stream breaks off or is none, and what the chunks raise.
        """
        try:
            size = self._reader.readinto(buffer)
        except (BadGzipFile, EOFError, _GZIP_ERROR, zstandard.ZstdError) as error:
            raise CorruptStreamError(str(error)) from error
        if not size and not self._source.started and self._compression is not Compression.NONE:
            raise CorruptStreamError(f"the {self._compression} stream is empty")
        return size


def inflate(chunks: Iterator[bytes | memoryview], compression: Compression) -> Iterator[bytes]:
    """Decompress for somebody who keeps the pieces; errors as those of ``Inflater``."""
    inflater = Inflater(chunks, compression)
    buffer = memoryview(bytearray(OUTPUT_BYTES))
    while size := inflater.readinto(buffer):
        yield bytes(buffer[:size])


def _reader(source: _ChunkReader, compression: Compression) -> _Reader:
    match compression:
        case Compression.NONE:
            return source
        case Compression.GZIP:
            # What igzip's file class stands on. That class would copy everything once more.
            reader: _Reader = isal_zlib._GzipReader(  # noqa: SLF001
                source,  # type: ignore[arg-type]  # is asked for ``readinto`` only
                _INPUT_BYTES,
            )
            return reader
        case Compression.ZSTD:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
            return decompressor.stream_reader(
                source,  # type: ignore[arg-type]  # reads nothing but ``read``; the stub asks for a whole file
                read_size=_INPUT_BYTES,
                read_across_frames=True,
            )


class _ChunkReader:
    """Chunks as a file, as far as decompressors look at one."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
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
            self.started = self.started or bool(chunk)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        """Copy up to a buffer's size; return how many bytes, 0 at the end."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)
