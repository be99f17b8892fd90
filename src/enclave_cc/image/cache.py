"""
The node's blob cache and the registry behind it, as one source of unchecked bytes.

The cache is the host's: its files are claims like everything else. What it cannot do is make a
pull fail for good: after a blob from it was found wrong, the registry is asked from then on.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Final

from enclave_cc.image.ports import FallibleRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.ports import Registry

_CHUNK_BYTES: Final = 256 << 10


class BlobCache:
    """Reads ``<directory>/<algorithm>/<hex>``; remembers which blobs were wrong. One per agent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._wrong: set[Digest] = set()
        self._lock = threading.Lock()

    def open(self, descriptor: Descriptor) -> Iterator[bytes] | None:
        """Stream a blob's bytes, or None where the cache has no file of the right size, or none to trust."""
        with self._lock:
            if descriptor.digest in self._wrong:
                return None
        path = self._directory / descriptor.digest.algorithm / descriptor.digest.hex
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size != descriptor.size:
            os.close(file)
            return None
        return _read(file)

    def reject(self, digest: Digest) -> bool:
        """Never serve a blob again; tell whether it would have been served."""
        with self._lock:
            known = digest in self._wrong
            self._wrong.add(digest)
        return not known


class CacheThenRegistry:
    """The cache's bytes where it has them, else the registry's."""

    def __init__(self, cache: BlobCache, registry: Registry) -> None:
        self._cache = cache
        self._registry = registry
        self._from_cache: set[Digest] = set()

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob's bytes, unchecked."""
        cached = self._cache.open(descriptor)
        if cached is None:
            self._from_cache.discard(descriptor.digest)
            return self._registry.blob(reference, str(descriptor.digest))
        self._from_cache.add(descriptor.digest)
        return cached

    def reject(self, descriptor: Descriptor) -> bool:
        """Hear that the bytes were wrong; after the cache the registry, after a mirror another place."""
        if descriptor.digest not in self._from_cache:
            registry = self._registry
            return isinstance(registry, FallibleRegistry) and registry.reject(str(descriptor.digest))
        self._cache.reject(descriptor.digest)
        return True


def _read(file: int) -> Iterator[bytes]:
    """Read to the end; a file that fails midway reads as a short one, which the caller notices."""
    with os.fdopen(file, "rb", buffering=0) as stream:
        while True:
            try:
                chunk = stream.read(_CHUNK_BYTES)
            except OSError:
                return
            if not chunk:
                return
            yield chunk
