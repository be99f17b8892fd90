"""
The node's cache of ciphertext: ``<algorithm>/<hex>``, shared by all pods, believed by nobody.

What is stored was compared with its name once, so that an honest node serves honest bytes; the
agent compares again, because the node may not be honest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import HEX_CHARS, Digest
from enclave_cc.core.errors import RefusedError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Larger single layers than this are not seen in practice; a registry must not fill the disk with one answer.
MAX_BLOB_BYTES: Final = 32 << 30
DEFAULT_CACHE_BYTES: Final = 64 << 30
_TEMPORARY: Final = ".incoming-"


class BlobCache:
    """A directory of blobs; the least recently used ones go when it outgrows its bound."""

    def __init__(
        self, directory: Path, *, max_bytes: int = DEFAULT_CACHE_BYTES, max_blob_bytes: int = MAX_BLOB_BYTES
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_blob_bytes = max_blob_bytes
        self._evicting = threading.Lock()
        for algorithm in HEX_CHARS:
            (directory / algorithm).mkdir(mode=0o755, parents=True, exist_ok=True)
            for rubbish in (directory / algorithm).glob(f"{_TEMPORARY}*"):
                rubbish.unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        """Return where a blob is or would be."""
        return self._directory / digest.algorithm / digest.hex

    def touch(self, digest: Digest) -> bool:
        """Tell whether a blob is there, and count that as a use."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def store(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        """Write a blob and name it once it has proved to deserve the name; raise ``RefusedError`` if not."""
        target = self.path(digest)
        descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                actual = self._write(file.write, digest.algorithm, chunks)
                os.fchmod(file.fileno(), 0o644)
            if not digest.matches(actual):
                raise RefusedError(
                    "digest-mismatch",
                    "bytes do not match their digest",
                    stage=Stage.FETCH,
                    detail=f"{digest} but {actual}",
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self._evict(keep=target)

    def _write(self, write: Callable[[bytes], object], algorithm: str, chunks: Iterable[bytes]) -> str:
        digest = hashlib.new(algorithm)
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self._max_blob_bytes:
                raise RefusedError(
                    "blob-too-large", "a layer is larger than this node caches", stage=Stage.FETCH
                )
            digest.update(chunk)
            write(chunk)
        return digest.hexdigest()

    def _evict(self, keep: Path) -> None:
        with self._evicting:
            blobs = sorted(self._blobs(), key=lambda blob: blob[0])
            total = sum(size for _, size, _ in blobs)
            for _, size, path in blobs:
                if total <= self._max_bytes:
                    return
                if path != keep:
                    path.unlink(missing_ok=True)
                    total -= size

    def _blobs(self) -> list[tuple[int, int, Path]]:
        found = []
        for algorithm, length in HEX_CHARS.items():
            for path in (self._directory / algorithm).iterdir():
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if len(path.name) == length:
                    found.append((status.st_mtime_ns, status.st_size, path))
        return found
