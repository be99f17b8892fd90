"""Compressing layers on their way: what ``docker save`` wrote plain need not be fetched plain everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard
from isal import isal_zlib

from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GZIP_FORMAT: Final = 31
_GZIP_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 3


def compressed(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """Compress a stream; no trace of when and where remains."""
    match compression:
        case Compression.NONE:
            yield from chunks
        case Compression.GZIP:
            yield from _pieces(isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT), chunks)
        case Compression.ZSTD:
            yield from _pieces(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(), chunks)


def _pieces(
    compressor: isal_zlib.Compress | zstandard.ZstdCompressionObj, chunks: Iterable[bytes]
) -> Iterator[bytes]:
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()
