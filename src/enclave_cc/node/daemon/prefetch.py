"""
Fetches ciphertext while containerd pulls, so that the kubelet's pull carries the wait.

Labels name image and layers where containerd passes them on; they are hints, a failure is only
logged, and the agent fetches for itself what is not there.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL, LAYER_LABEL, LAYERS_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.transport.blobs.directory import BlobDirectory

_LOG: Final = logging.getLogger(__name__)
# As many downloads as containerd runs by default.
_WORKERS: Final = 3
# The kubelet gives pulls no deadline of its own; a download that takes longer goes on without holding one up.
WAIT_S: Final = 300.0
# The service has 32 threads for all pods of the node: slow registries may hold up some of them, never all.
_MAX_WAITING: Final = 16
# containerd cuts the list of layers at 4096 bytes; this bounds what a forged label can queue.
_MAX_LAYERS: Final = 64


class FetchedFrom(Protocol):
    """The registries of one fetch."""

    def blob(self, reference: Reference, descriptor_digest: str) -> Iterator[bytes]:
        """Stream a blob's bytes, unchecked."""

    def reject(self, descriptor_digest: str) -> bool:
        """Hear that a blob was wrong; tell whether asking again may give another one."""


class Prefetch:
    """Downloads by digest, each at most once at a time."""

    def __init__(
        self, cache: BlobDirectory, open_registries: Callable[[], FetchedFrom], *, wait_s: float = WAIT_S
    ) -> None:
        self._cache = cache
        self._open_registries = open_registries
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prefetch")
        self._under_way: dict[Digest, Future[None]] = {}
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)
        self._closed = threading.Event()

    def close(self) -> None:
        """Drop what has not begun, and end what has: nobody may have to wait for a registry to stop us."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def layer(self, labels: dict[str, str]) -> None:
        """Begin all layers that the labels name, and wait a while for the one they are about."""
        try:
            reference = Reference.parse(labels.get(IMAGE_LABEL, ""))
            own = Digest.parse(labels.get(LAYER_LABEL, ""))
            later = [Digest.parse(text) for text in labels.get(LAYERS_LABEL, "").split(",") if text]
        except EnclaveCcError:
            return
        download = self._begin(reference, own)
        # The list begins with the layer itself; one that has failed already is not tried twice in a row.
        for digest in dict.fromkeys(later[:_MAX_LAYERS]):
            if digest != own:
                self._begin(reference, digest)
        if download is not None:
            self._await(download)

    def _await(self, download: Future[None]) -> None:
        if not self._waiting.acquire(blocking=False):
            return
        try:
            wait((download,), timeout=self._wait_s)
        finally:
            self._waiting.release()

    def _begin(self, reference: Reference, digest: Digest) -> Future[None] | None:
        if self._cache.touch(digest):
            return None
        with self._lock:
            download = self._under_way.get(digest)
            if download is None:
                download = self._pool.submit(self._fetch, reference, digest)
                self._under_way[digest] = download
        return download

    def _fetch(self, reference: Reference, digest: Digest) -> None:
        fields = {"image": str(reference), "digest": str(digest)}
        try:
            if not self._cache.touch(digest):
                self._store(reference, digest, self._open_registries())
            _LOG.info("prefetched", extra={"fields": fields})
        except (EnclaveCcError, OSError) as error:
            _LOG.warning("prefetch-failed", extra={"fields": fields | {"error": str(error)}})
        finally:
            with self._lock:
                self._under_way.pop(digest, None)

    def _store(self, reference: Reference, digest: Digest, registries: FetchedFrom) -> None:
        while True:
            try:
                self._cache.store(digest, self._until_closed(registries.blob(reference, str(digest))))
            except RefusedError:
                # A mirror that lied is not asked again, so that this ends.
                if not registries.reject(str(digest)):
                    raise
            else:
                return

    def _until_closed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._closed.is_set():
                raise UnavailableError("unavailable", "a download was given up", stage=Stage.FETCH)
            yield chunk
