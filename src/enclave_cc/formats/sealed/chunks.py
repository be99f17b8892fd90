"""
A blob: a stream cut into 64 KiB chunks, each sealed with AES-256-GCM under the blob's own key.

Chunk i lies at ``i * STRIDE_BYTES``; its nonce is i (96 bits, little endian) and it has no associated
data. That is safe for one reason only: a key seals one stream, once. Whoever retries takes a new
key. The last chunk is padded with zeros, so that every stored chunk has the same size and the
number of chunks, which the manifest authenticates, fixes the length of the file.

Only the ``_into`` forms of the cipher are used: they write into buffers that are used again, and
they let other threads run meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.secret import Secret

CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
STRIDE_BYTES: Final = CHUNK_BYTES + TAG_BYTES
_NONCE_BYTES: Final = 12
# Sealed chunks leave in pieces of half a MiB: large enough for the disk, small enough for the cache.
_BATCH_CHUNKS: Final = 8
# The sealed image addresses 512-byte blocks by 32-bit numbers: 2 TiB.
MAX_CHUNKS: Final = (1 << 41) // CHUNK_BYTES

Octets: TypeAlias = bytes | bytearray | memoryview


class ChunkRefusedError(ValueError):
    """A chunk is not the one that was sealed at this place."""


class ChunkSealer:
    """Seal one stream under a key that nothing else uses."""

    def __init__(self, key: Secret) -> None:
        self._cipher = AESGCM(key.reveal())
        self._partial = memoryview(bytearray(CHUNK_BYTES))
        self._filled = 0
        self._batch = memoryview(bytearray(_BATCH_CHUNKS * STRIDE_BYTES))
        self._batched = 0
        self._finished = False
        self.chunks = 0

    def feed(self, data: Octets) -> Iterator[memoryview]:
        """Take the next piece of the stream; yield sealed bytes, each view valid until the next step."""
        if self._finished:
            raise ValueError("the stream has ended: its key must not seal anything else")
        rest = memoryview(data)
        if self._filled:
            rest = self._fill(rest)
            if self._filled < CHUNK_BYTES:
                return
            self._encrypt(self._partial)
            self._filled = 0
            if self._batched == len(self._batch):
                yield self._take_batch()
        whole = len(rest) - len(rest) % CHUNK_BYTES
        for start in range(0, whole, CHUNK_BYTES):
            self._encrypt(rest[start : start + CHUNK_BYTES])
            if self._batched == len(self._batch):
                yield self._take_batch()
        self._fill(rest[whole:])

    def finish(self) -> memoryview:
        """Pad and seal what is left, return the last sealed bytes, and seal nothing more."""
        self._finished = True
        if self._filled:
            self._partial[self._filled :] = bytes(CHUNK_BYTES - self._filled)
            self._encrypt(self._partial)
            self._filled = 0
        self._partial[:] = bytes(CHUNK_BYTES)
        return self._batch[: self._batched]

    def _fill(self, data: memoryview) -> memoryview:
        """Move as much as fits into the partial chunk; return what did not fit."""
        taken = min(CHUNK_BYTES - self._filled, len(data))
        self._partial[self._filled : self._filled + taken] = data[:taken]
        self._filled += taken
        return data[taken:]

    def _take_batch(self) -> memoryview:
        self._batched = 0
        return self._batch

    def _encrypt(self, chunk: memoryview) -> None:
        if self.chunks == MAX_CHUNKS:
            raise ValueError("the stream is too long for a sealed image")
        sealed = self._batch[self._batched : self._batched + STRIDE_BYTES]
        self._cipher.encrypt_into(_nonce(self.chunks), chunk, None, sealed)
        self.chunks += 1
        self._batched += STRIDE_BYTES


class ChunkOpener:
    """Open the chunks of one blob, in any order, from any thread."""

    def __init__(self, key: Secret) -> None:
        self._cipher = AESGCM(key.reveal())

    def open_into(self, index: int, sealed: Octets, plaintext: Octets) -> None:
        """
        Decrypt chunk ``index`` into a buffer of ``CHUNK_BYTES``.

        ``sealed`` must be private memory: a file mapping could change between check and use. Raise
        ``ChunkRefusedError`` if it is not that chunk; what the buffer holds then must not be used.
        """
        try:
            self._cipher.decrypt_into(_nonce(index), sealed, None, plaintext)
        except InvalidTag as error:
            raise ChunkRefusedError(f"chunk {index} is not the one that was sealed") from error


def _nonce(index: int) -> bytes:
    return index.to_bytes(_NONCE_BYTES, "little")
