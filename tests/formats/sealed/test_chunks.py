"""Chunks open where they were sealed and nowhere else, and the geometry is the documented one."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.secret import Secret
from enclave_cc.formats.sealed.chunks import (
    CHUNK_BYTES,
    STRIDE_BYTES,
    ChunkOpener,
    ChunkRefusedError,
    ChunkSealer,
)

KEY = bytes(range(32))


def seal(pieces) -> bytes:
    sealer = ChunkSealer(Secret(KEY))
    sealed = b"".join(bytes(view) for piece in pieces for view in sealer.feed(piece))
    return sealed + bytes(sealer.finish())


def chunk(sealed: bytes, index: int) -> bytes:
    return sealed[index * STRIDE_BYTES : (index + 1) * STRIDE_BYTES]


def open_chunk(sealed: bytes, index: int, key: bytes = KEY) -> bytes:
    out = bytearray(CHUNK_BYTES)
    ChunkOpener(Secret(key)).open_into(index, sealed, out)
    return bytes(out)


def test_a_chunk_is_plain_aes_gcm_with_its_index_as_nonce():
    data = bytes(CHUNK_BYTES) + b"second"
    expected = AESGCM(KEY).encrypt((0).to_bytes(12, "little"), data[:CHUNK_BYTES], None)
    expected += AESGCM(KEY).encrypt((1).to_bytes(12, "little"), b"second".ljust(CHUNK_BYTES, b"\0"), None)
    assert seal([data]) == expected


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 40 * CHUNK_BYTES + 5])
def test_every_stored_chunk_is_whole(size):
    sealed = seal([b"x" * size])
    count = -(-size // CHUNK_BYTES)
    assert len(sealed) == count * STRIDE_BYTES
    plaintext = b"".join(open_chunk(chunk(sealed, index), index) for index in range(count))
    assert plaintext == (b"x" * size).ljust(count * CHUNK_BYTES, b"\0")


@given(st.lists(st.sampled_from([0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7]), max_size=8))
def test_pieces_of_any_size_are_sealed_alike(sizes):
    data = bytes(range(256)) * (-(-sum(sizes) // 256))
    data = data[: sum(sizes)]
    pieces = []
    for size in sizes:
        pieces.append(memoryview(data)[sum(map(len, pieces)) :][:size])
    assert seal(pieces) == seal([data])


def test_a_finished_stream_takes_no_more():
    sealer = ChunkSealer(Secret(KEY))
    sealer.finish()
    with pytest.raises(ValueError, match="must not seal"):
        list(sealer.feed(b"more"))


def test_a_wiped_key_seals_nothing():
    key = Secret(KEY)
    key.wipe()
    with pytest.raises(ValueError, match="wiped"):
        ChunkSealer(key)


def test_a_chunk_is_refused_in_another_place():
    sealed = seal([b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES])
    with pytest.raises(ChunkRefusedError):
        open_chunk(chunk(sealed, 0), 1)


def test_a_chunk_is_refused_under_another_key():
    with pytest.raises(ChunkRefusedError):
        open_chunk(seal([b"a"]), 0, bytes(32))


@pytest.mark.parametrize("position", [0, CHUNK_BYTES - 1, CHUNK_BYTES, STRIDE_BYTES - 1])
def test_a_changed_bit_is_refused(position):
    sealed = bytearray(seal([b"a" * CHUNK_BYTES]))
    sealed[position] ^= 1
    with pytest.raises(ChunkRefusedError):
        open_chunk(bytes(sealed), 0)
