"""
The node's blob cache and the registry behind it, as one source of unchecked bytes.

The cache is the host's: its files are claims like everything else. What it cannot do is make a
pull fail for good: after a blob from it was found wrong, the registry is asked from then on. What
had to be fetched is left there for other pods, if it is ciphertext; plaintext never is.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.image.ports import FallibleRegistry
from enclave_cc.transport.blobs.directory import BlobDirectory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.ports import Registry
    from enclave_cc.transport.blobs.directory import Incoming


class BlobCache:
    """Reads the node's directory and adds to it where it may; remembers which blobs were wrong."""

    def __init__(self, directory: Path) -> None:
        self._directory = BlobDirectory(directory)
        self._wrong: set[Digest] = set()
        self._lock = threading.Lock()

    def open(self, descriptor: Descriptor) -> Iterator[bytes] | None:
        """Stream a blob's bytes, or None where the cache has no file of the right size, or none to trust."""
        with self._lock:
            if descriptor.digest in self._wrong:
                return None
        return self._directory.open(descriptor.digest, descriptor.size)

    def reject(self, digest: Digest) -> bool:
        """Never serve a blob again; tell whether it would have been served."""
        with self._lock:
            known = digest in self._wrong
            self._wrong.add(digest)
        self._directory.remove(digest)
        return not known

    def filled(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a blob through and keep it if it is what it should be; a cache that cannot is no obstacle."""
        writing = ExitStack()
        try:
            blob = self._begin(descriptor, writing)
            for chunk in chunks:
                if blob is not None and not _written(blob, chunk):
                    blob = None
                yield chunk
            if blob is not None:
                with suppress(RefusedError):
                    blob.keep()
        finally:
            with suppress(OSError):
                writing.close()

    def _begin(self, descriptor: Descriptor, writing: ExitStack) -> Incoming | None:
        try:
            return writing.enter_context(self._directory.incoming(descriptor.digest))
        except OSError:
            return None


class CacheThenRegistry:
    """The cache's bytes where it has them, else the registry's."""

    def __init__(self, cache: BlobCache, registry: Registry) -> None:
        self._cache = cache
        self._registry = registry
        self._from_cache: set[Digest] = set()

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob's bytes, unchecked."""
        cached = self._cache.open(descriptor)
        if cached is not None:
            self._from_cache.add(descriptor.digest)
            return cached
        self._from_cache.discard(descriptor.digest)
        fetched = self._registry.blob(reference, str(descriptor.digest))
        return self._cache.filled(descriptor, fetched) if _is_encrypted(descriptor) else fetched

    def reject(self, descriptor: Descriptor) -> bool:
        """Hear that the bytes were wrong; after the cache the registry, after a mirror another place."""
        if descriptor.digest not in self._from_cache:
            registry = self._registry
            return isinstance(registry, FallibleRegistry) and registry.reject(str(descriptor.digest))
        self._cache.reject(descriptor.digest)
        return True


def _is_encrypted(descriptor: Descriptor) -> bool:
    try:
        return LayerMediaType.parse(descriptor.media_type).encrypted
    except ValueError:
        return False


def _written(blob: Incoming, chunk: bytes) -> bool:
    """Write a piece; a full disk or a blob that is too large ends the keeping, not the fetching."""
    try:
        blob.write(chunk)
    except (OSError, RefusedError):
        return False
    return True
