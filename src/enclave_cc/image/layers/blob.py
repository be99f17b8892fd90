"""
A layer's bytes as the registry has them, compared with what the manifest and the layer's key say of them.

What fits the spool is authenticated as a whole before its first byte is handed on. What does not is
checked while it streams, in a thread of its own.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.formats.ocicrypt.layer_cipher import LayerAuthenticator
from enclave_cc.image.layers.channel import in_thread
from enclave_cc.image.ports import FallibleBlobSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.keys.layer_key import LayerKey
    from enclave_cc.image.layers.progress import LayerProgress
    from enclave_cc.image.layers.spool import Reservation
    from enclave_cc.image.ports import BlobSource

# Sources may deliver crumbs; stages hand over pieces whose overhead does not show.
_PIECE_BYTES: Final = 256 << 10


class LayerBlob:
    """One blob of one pull: where it comes from and what it must be."""

    def __init__(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: BlobSource,
        *,
        key: LayerKey | None,
        checks: Checks,
        progress: LayerProgress,
    ) -> None:
        self._reference = reference
        self._descriptor = descriptor
        self._source = source
        self._key = key
        self._checks = checks
        self._progress = progress

    def spooled(self, reservation: Reservation) -> Iterator[bytes]:
        """Yield the blob after all of it was checked; a cache or a mirror that lied is asked once."""
        spool = self._spool()
        spool.reverse()
        while spool:
            chunk = spool.pop()
            yield chunk
            reservation.release(len(chunk))

    def _spool(self) -> list[bytes]:
        mark = self._checks.mark()
        while True:
            try:
                return list(self._checked())
            except RefusedError as error:
                # Whoever lied is not asked again, so that this ends.
                if not self._ask_elsewhere():
                    raise
                wrong = str(self._descriptor.digest)
                damaged = Finding("image.layer.cache", Outcome.SKIPPED, wrong, error.detail)
                self._checks.begin_again(mark, damaged)

    def streamed(self) -> Iterator[bytes]:
        """Yield bytes before the end was seen; read and checked in a thread, a few pieces ahead."""
        return in_thread(self._told_apart(), name="layer-read")

    def _told_apart(self) -> Iterator[bytes]:
        """Let a cache that lied cost this attempt and no other."""
        try:
            yield from self._checked()
        except RefusedError as error:
            if not self._ask_elsewhere():
                raise
            raise UnavailableError(
                "cache-blob-refused",
                "a copy of a layer is damaged",
                stage=Stage.FETCH,
                detail=error.detail,
                findings=error.findings,
            ) from error

    def _ask_elsewhere(self) -> bool:
        return isinstance(self._source, FallibleBlobSource) and self._source.reject(self._descriptor)

    def _checked(self) -> Iterator[bytes]:
        """Count and digest; raise ``RefusedError`` at the end, or as soon as there is too much."""
        expected = self._descriptor.digest
        digest = hashlib.new(expected.algorithm)
        authenticator = None if self._key is None else LayerAuthenticator(self._key.private)
        self._progress.arrived_bytes = 0
        for chunk in _gathered(self._source.open(self._reference, self._descriptor)):
            self._progress.arrived_bytes += len(chunk)
            if self._progress.arrived_bytes > self._descriptor.size:
                break
            digest.update(chunk)
            if authenticator is not None:
                authenticator.update(chunk)
            yield chunk
        self._require_bytes(f"{expected.algorithm}:{digest.hexdigest()}")
        if self._key is not None and authenticator is not None:
            self._checks.require(
                authenticator.finding("image.layer.hmac", self._key.public),
                "layer-hmac-mismatch",
                "an encrypted layer was changed",
                stage=Stage.DECRYPT,
            )

    def _require_bytes(self, computed: str) -> None:
        size, arrived = str(self._descriptor.size), str(self._progress.arrived_bytes)
        for finding in (
            equal("image.layer.size", expected=size, actual=arrived),
            equal("image.layer.digest", expected=str(self._descriptor.digest), actual=computed),
        ):
            self._checks.require(
                finding,
                "layer-digest-mismatch",
                "a layer's bytes are not those that the manifest names",
                stage=Stage.VERIFY,
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
