"""
One layer, from untrusted bytes to a checked tar stream: count, digest, HMAC, decrypt, inflate, diff id.

A layer that fits the spool is authenticated as a whole before its first byte is decrypted, let
alone decompressed; a larger one is checked while it streams, and its consumer must throw away what
it made when the stream ends in an error. Reading and inflating run in threads of their own, a
bounded number of chunks ahead; the diff id is computed by whoever iterates.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.formats.ocicrypt.layer_cipher import LayerAuthenticator, LayerDecryptor
from enclave_cc.image.channel import in_thread
from enclave_cc.image.checks import Checks
from enclave_cc.image.inflate import CorruptStreamError, inflate
from enclave_cc.image.limits import DEFAULT_LIMITS, at_most
from enclave_cc.image.ports import FallibleBlobSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.media_types import LayerMediaType
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.layer_key import LayerKey
    from enclave_cc.image.limits import Limits
    from enclave_cc.image.ports import BlobSource, LayerKeys

# Sources may deliver crumbs; stages hand over pieces whose overhead does not show.
_PIECE_BYTES: Final = 256 << 10


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
) -> Iterator[bytes]:
    """
    Stream the layer's plain, uncompressed tar; an error after the last chunk is a refusal of all of them.

    Raises ``RefusedError`` (layer-key-refused, layer-digest-mismatch, layer-hmac-mismatch,
    layer-plain-digest-mismatch, layer-corrupt, diff-id-mismatch, image-limit-exceeded),
    ``InvalidInputError`` for malformed encryption options, and ``UnavailableError``: the broker's,
    the registry's, or cache-blob-refused when only the node's cache was wrong.
    """
    checks = Checks()
    key: LayerKey | None = None
    # (1) The key, if the layer needs one, before any byte is fetched.
    if layer.media_type.encrypted:
        key = keys.unwrap(layer.descriptor, checks)
    try:
        # (2) Length, digest and HMAC of the blob; (3) decrypt.
        blob = _authentic(layer, source, key, checks, limits)
        compressed = blob if key is None else _decrypt(blob, key, checks)
        read = in_thread(compressed, name="layer-read")
        # (4) Inflate, counted.
        inflated = in_thread(_inflate(read, layer, checks, limits), name="layer-inflate")
        with closing(inflated):
            # (5) The digest of the tar itself.
            yield from _check_diff_id(inflated, layer.diff_id, checks)
    finally:
        if key is not None:
            key.wipe()


def _authentic(
    layer: Layer, source: BlobSource, key: LayerKey | None, checks: Checks, limits: Limits
) -> Iterator[bytes]:
    """Yield the blob as it is, checked before (spool) or while (stream) it is handed on."""
    if layer.descriptor.size > limits.spool_bytes:
        yield from _streamed(layer, source, key, checks)
        return
    mark = checks.mark()
    try:
        spool = list(_checked(layer, source, key, checks))
    except RefusedError as error:
        if not _ask_elsewhere(source, layer.descriptor):
            raise
        damaged = Finding("image.layer.cache", Outcome.SKIPPED, str(layer.descriptor.digest), error.detail)
        checks.begin_again(mark, damaged)
        spool = list(_checked(layer, source, key, checks))
    spool.reverse()
    while spool:
        yield spool.pop()


def _streamed(layer: Layer, source: BlobSource, key: LayerKey | None, checks: Checks) -> Iterator[bytes]:
    """Hand on bytes before the end was seen; a cache that lied costs this attempt and no other."""
    try:
        yield from _checked(layer, source, key, checks)
    except RefusedError as error:
        if not _ask_elsewhere(source, layer.descriptor):
            raise
        raise UnavailableError(
            "cache-blob-refused",
            "the node's copy of a layer is damaged",
            stage=Stage.FETCH,
            detail=error.detail,
            findings=error.findings,
        ) from error


def _ask_elsewhere(source: BlobSource, descriptor: Descriptor) -> bool:
    return isinstance(source, FallibleBlobSource) and source.reject(descriptor)


def _checked(layer: Layer, source: BlobSource, key: LayerKey | None, checks: Checks) -> Iterator[bytes]:
    """Count and digest the blob; raise ``RefusedError`` at its end, or as soon as it is too long."""
    descriptor = layer.descriptor
    digest = hashlib.new(descriptor.digest.algorithm)
    authenticator = None if key is None else LayerAuthenticator(key.private)
    size = 0
    for chunk in _gathered(source.open(layer.reference, descriptor)):
        size += len(chunk)
        if size > descriptor.size:
            break
        digest.update(chunk)
        if authenticator is not None:
            authenticator.update(chunk)
        yield chunk
    summary = "a layer's bytes are not those that the manifest names"
    length = equal("image.layer.size", expected=str(descriptor.size), actual=str(size))
    checks.require(length, "layer-digest-mismatch", summary, stage=Stage.VERIFY)
    computed = f"{descriptor.digest.algorithm}:{digest.hexdigest()}"
    content = equal("image.layer.digest", expected=str(descriptor.digest), actual=computed)
    checks.require(content, "layer-digest-mismatch", summary, stage=Stage.VERIFY)
    if key is not None and authenticator is not None:
        checks.require(
            authenticator.finding("image.layer.hmac", key.public),
            "layer-hmac-mismatch",
            "an encrypted layer was changed",
            stage=Stage.DECRYPT,
        )


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join crumbs into pieces."""
    crumbs: list[bytes] = []
    size = 0
    for chunk in chunks:
        crumbs.append(chunk)
        size += len(chunk)
        if size >= _PIECE_BYTES:
            yield b"".join(crumbs)
            crumbs, size = [], 0
    if crumbs:
        yield b"".join(crumbs)


def _decrypt(blob: Iterator[bytes], key: LayerKey, checks: Checks) -> Iterator[bytes]:
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


def _inflate(chunks: Iterator[bytes], layer: Layer, checks: Checks, limits: Limits) -> Iterator[bytes]:
    """Decompress and count; what broke the stream is asked of the earlier stages first."""
    arrived = _Counted(chunks)
    size = 0
    try:
        for piece in inflate(arrived, layer.media_type.compression):
            size += len(piece)
            limit = limits.uncompressed_bytes_of(layer.descriptor.size, arrived_bytes=arrived.bytes)
            if size > limit:
                # A record of its own: the reading stage still writes to the shared one.
                Checks().require(
                    at_most("image.limit.uncompressed-bytes", limit=limit, actual=size),
                    "image-limit-exceeded",
                    "a layer grows beyond the limit",
                    stage=Stage.UNPACK,
                )
            yield piece
    except CorruptStreamError as error:
        for _ in chunks:
            # A wrong digest explains a broken stream; let that stage run to its end and say so.
            continue
        finding = Finding("image.layer.compression", Outcome.FAILED, layer.media_type.compression, str(error))
        checks.require(finding, "layer-corrupt", "a layer does not decompress", stage=Stage.UNPACK)


class _Counted:
    """An iterator that knows how many bytes went through it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.bytes += len(chunk)
        return chunk


def _check_diff_id(chunks: Iterable[bytes], diff_id: Digest, checks: Checks) -> Iterator[bytes]:
    digest = hashlib.new(diff_id.algorithm)
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    computed = f"{diff_id.algorithm}:{digest.hexdigest()}"
    checks.require(
        equal("image.layer.diff-id", expected=str(diff_id), actual=computed),
        "diff-id-mismatch",
        "a layer's content is not what the image's configuration says",
        stage=Stage.VERIFY,
    )
