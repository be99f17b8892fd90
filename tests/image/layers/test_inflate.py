"""Compressed streams of any bytes, in chunks of any size, give their content or the declared error."""

from __future__ import annotations

import gzip

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.image.layers.inflate import CorruptStreamError, Inflater, inflate

COMPRESS = {
    Compression.NONE: bytes,
    Compression.GZIP: lambda data: gzip.compress(data, 1, mtime=0),
    Compression.ZSTD: zstandard.compress,
}
CONTENT = bytes(range(256)) * 3000


def pieces(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 511, 1 << 20])
@pytest.mark.parametrize("buffer_bytes", [1, 1000, 1 << 20])
def test_chunks_and_buffers_of_any_size_give_the_content(compression, chunk_bytes, buffer_bytes):
    content = CONTENT[:5000]
    inflater = Inflater(pieces(COMPRESS[compression](content), chunk_bytes), compression)
    buffer, found = memoryview(bytearray(buffer_bytes)), b""
    while size := inflater.readinto(buffer):
        found += buffer[:size]
    assert found == content


@pytest.mark.parametrize("compression", COMPRESS)
def test_chunks_in_a_buffer_that_is_used_again_give_the_content(compression):
    """A decryptor overwrites its last chunk with the next one."""
    reused = bytearray(1000)

    def overwritten():
        for piece in pieces(COMPRESS[compression](CONTENT), len(reused)):
            reused[: len(piece)] = piece
            yield memoryview(reused)[: len(piece)]
            reused[:] = b"\xff" * len(reused)

    assert b"".join(inflate(overwritten(), compression)) == CONTENT


@pytest.mark.parametrize("compression", COMPRESS)
def test_several_members_or_frames_are_one_stream(compression):
    compress = COMPRESS[compression]
    data = compress(b"one") + compress(b"") + compress(b"two")
    assert b"".join(inflate(iter([data]), compression)) == b"onetwo"


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_stream_of_nothing_is_none(compression):
    for chunks in ([], [b""], [b"", b""]):
        with pytest.raises(CorruptStreamError):
            list(inflate(iter(chunks), compression))


def test_what_the_chunks_raise_passes_through():
    def refused():
        yield COMPRESS[Compression.GZIP](CONTENT)[:1000]
        raise LookupError("the source's own")

    with pytest.raises(LookupError):
        list(inflate(refused(), Compression.GZIP))


@given(st.sampled_from(list(COMPRESS)), st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_content_or_the_declared_error(compression, data, chunk_bytes):
    try:
        list(inflate(pieces(data, chunk_bytes), compression))
    except CorruptStreamError:
        return


@given(st.sampled_from([Compression.GZIP, Compression.ZSTD]), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_damaged_streams_give_content_or_the_declared_error(compression, dice):
    data = bytearray(COMPRESS[compression](CONTENT[: dice.randrange(2000)]) * dice.randrange(1, 3))
    for _ in range(dice.randrange(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    try:
        list(inflate(pieces(bytes(data), dice.randrange(1, 500)), compression))
    except CorruptStreamError:
        return
