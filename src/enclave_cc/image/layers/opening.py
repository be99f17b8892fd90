"""
One layer, from untrusted bytes to a checked tar stream: count, digest, HMAC, decrypt, inflate, diff id.

A layer that fits the spool is authenticated as a whole before its first byte is decrypted, let
alone decompressed; a larger one is checked while it streams, and its consumer must throw away what
it made when the stream ends in an error. Reading and inflating run in threads of their own, a
bounded number of pieces ahead; the diff id is computed by whoever iterates.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.formats.ocicrypt.layer_cipher import LayerDecryptor
from enclave_cc.image.budget import ImageBudget
from enclave_cc.image.checks import Checks
from enclave_cc.image.layers.blob import LayerBlob
from enclave_cc.image.layers.inflate import CorruptStreamError, Inflater
from enclave_cc.image.layers.progress import LayerProgress
from enclave_cc.image.layers.ring import filled_in_thread
from enclave_cc.image.limits import DEFAULT_LIMITS, require_at_most

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.media_types import LayerMediaType
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.keys.layer_key import LayerKey
    from enclave_cc.image.layers.spool import Reservation
    from enclave_cc.image.limits import Limits
    from enclave_cc.image.ports import BlobSource, LayerKeys


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a verified image: what its manifest and its configuration say about it."""

    reference: Reference
    descriptor: Descriptor
    media_type: LayerMediaType
    diff_id: Digest


def open_layer(
    layer: Layer,
    *,
    source: BlobSource,
    keys: LayerKeys,
    limits: Limits = DEFAULT_LIMITS,
    budget: ImageBudget | None = None,
    progress: LayerProgress | None = None,
    spooled: bool = True,
) -> Generator[memoryview, None, None]:
    """
    Stream the layer's plain, uncompressed tar; an error after the last piece is a refusal of all of them.

    A piece is only valid until the next one is asked for. Returns when there is room in the spool of
    ``budget``, which the layers of an image share, and whose limits count; a layer that is opened out of
    turn must not wait for room, and is not ``spooled``. The stream raises
    ``RefusedError`` (layer-key-refused, layer-digest-mismatch, layer-hmac-mismatch,
    layer-plain-digest-mismatch, layer-corrupt, diff-id-mismatch, image-limit-exceeded),
    ``InvalidInputError`` for malformed encryption options, and ``UnavailableError``: the broker's, the
    registry's, or cache-blob-refused when only the node's cache was wrong.
    """
    shared = budget or ImageBudget(limits)
    room = shared.spool.reserve(layer.descriptor.size if spooled else 0)
    return _Opening(layer, shared, progress or LayerProgress()).pieces(source, keys, room)


@dataclass(frozen=True, slots=True)
class _Opening:
    """What the steps of opening one layer share."""

    layer: Layer
    budget: ImageBudget
    progress: LayerProgress

    def pieces(
        self, source: BlobSource, keys: LayerKeys, room: Reservation
    ) -> Generator[memoryview, None, None]:
        """Take the steps in their order."""
        checks, layer = Checks(), self.layer
        key: LayerKey | None = None
        with room:
            try:
                # (1) The key, if the layer needs one, before any byte is fetched.
                if layer.media_type.encrypted:
                    key = keys.unwrap(layer.descriptor, checks)
                # (2) Length, digest and HMAC of the blob; (3) decrypt.
                blob = LayerBlob(
                    layer.reference,
                    layer.descriptor,
                    source,
                    key=key,
                    checks=checks,
                    progress=self.progress,
                )
                authentic = blob.spooled(room) if room.size_bytes else blob.streamed()
                compressed = authentic if key is None else _decrypted(authentic, key, checks)
                # (4) Inflate, counted; (5) the digest of the tar itself.
                inflation = _Inflation(compressed, layer, checks, self.budget)
                inflated = filled_in_thread(inflation.readinto, name="layer-inflate", close=inflation.close)
                with closing(inflated):
                    yield from _with_diff_id(inflated, layer.diff_id, checks)
            finally:
                if key is not None:
                    key.wipe()


def _decrypted(blob: Iterator[bytes], key: LayerKey, checks: Checks) -> Iterator[memoryview]:
    """Decrypt, and compare with the digest that was wrapped together with the key."""
    decryptor = LayerDecryptor(key.private)
    wanted = key.private.digest
    digest = hashlib.new(wanted.algorithm)
    for chunk in blob:
        plain = decryptor.update(chunk)
        digest.update(plain)
        yield plain
    computed = f"{wanted.algorithm}:{digest.hexdigest()}"
    checks.require(
        equal("image.layer.plain-digest", expected=str(wanted), actual=computed),
        "layer-plain-digest-mismatch",
        "a layer's key belongs to another layer",
        stage=Stage.DECRYPT,
    )


class _Inflation:
    """Decompress and count; what broke the stream is asked of the earlier stages first."""

    def __init__(
        self, chunks: Iterator[bytes | memoryview], layer: Layer, checks: Checks, budget: ImageBudget
    ) -> None:
        self._chunks = chunks
        self._layer = layer
        self._checks = checks
        self._budget = budget
        self._arrived = _Counted(chunks)
        self._inflater = Inflater(self._arrived, layer.media_type.compression)
        self._size = 0

    def readinto(self, buffer: memoryview) -> int:
        try:
            size = self._inflater.readinto(buffer)
        except CorruptStreamError as error:
            self._explain(error)
            raise
        self._size += size
        self._require_bounded()
        self._budget.uncompressed.count(size)
        return size

    def _require_bounded(self) -> None:
        announced, arrived = self._layer.descriptor.size, self._arrived.bytes
        limit = self._budget.limits.uncompressed_bytes_of(announced, arrived_bytes=arrived)
        if self._size > limit:
            # A record of its own: the reading stage still writes to the shared one.
            require_at_most(
                Checks(),
                "image.limit.uncompressed-bytes",
                "a layer grows beyond the limit",
                limit=limit,
                actual=self._size,
                stage=Stage.UNPACK,
            )

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    def _explain(self, error: CorruptStreamError) -> None:
        for _ in self._chunks:
            # A wrong digest explains a broken stream; let that stage run to its end and say so.
            continue
        compression = self._layer.media_type.compression
        finding = Finding("image.layer.compression", Outcome.FAILED, compression, str(error))
        self._checks.require(finding, "layer-corrupt", "a layer does not decompress", stage=Stage.UNPACK)


class _Counted:
    """An iterator that knows how many bytes went through it."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self.bytes = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes | memoryview:
        chunk = next(self._chunks)
        self.bytes += len(chunk)
        return chunk


def _with_diff_id(pieces: Iterable[memoryview], diff_id: Digest, checks: Checks) -> Iterator[memoryview]:
    digest = hashlib.new(diff_id.algorithm)
    for piece in pieces:
        digest.update(piece)
        yield piece
    computed = f"{diff_id.algorithm}:{digest.hexdigest()}"
    checks.require(
        equal("image.layer.diff-id", expected=str(diff_id), actual=computed),
        "diff-id-mismatch",
        "a layer's content is not what the image's configuration says",
        stage=Stage.VERIFY,
    )
