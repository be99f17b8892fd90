"""
The node's cache of blobs: ``<algorithm>/<hex>``, filled by whoever fetched first, believed by nobody.

Node and agents share the directory, so everybody in here may be hostile to everybody else. Names lead
to files only: no link is followed, nothing but a regular file with one name is read, nothing that
exists is ever written to, and whoever reads compares the digest. What a hostile writer can do is cost
time: remove a blob, or put a wrong one in its place that its reader throws away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import HEX_CHARS, Digest
from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.transport.blobs.eviction import INCOMING, evict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Larger single layers than this are not seen in practice; a registry must not fill the disk with one answer.
MAX_BLOB_BYTES: Final = 32 << 30
DEFAULT_CACHE_BYTES: Final = 64 << 30
_CHUNK_BYTES: Final = 1 << 20
_NAME_BYTES: Final = 12
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BlobDirectory:
    """A directory of blobs; the least recently used ones go when it outgrows its bound."""

    def __init__(
        self, directory: Path, *, max_bytes: int = DEFAULT_CACHE_BYTES, max_blob_bytes: int = MAX_BLOB_BYTES
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_blob_bytes = max_blob_bytes

    def create(self) -> None:
        """Make the directory and sweep what interrupted writers left; raise ``OSError``."""
        for algorithm in HEX_CHARS:
            (self._directory / algorithm).mkdir(mode=0o755, parents=True, exist_ok=True)
        evict(self._directory, max_bytes=self._max_bytes, keep="")

    def touch(self, digest: Digest) -> bool:
        """Tell whether a blob is there, and count that as a use."""
        file = self._open(digest)
        if file is None:
            return False
        os.close(file)
        return True

    def open(self, digest: Digest, size: int) -> Iterator[bytes] | None:
        """Stream a blob, unchecked, or None where there is no plain file of that size."""
        file = self._open(digest)
        if file is None:
            return None
        if os.fstat(file).st_size != size:
            os.close(file)
            return None
        return _read(file)

    def remove(self, digest: Digest) -> None:
        """Drop a blob that proved wrong, where that is possible."""
        with suppress(OSError), self._opened(digest.algorithm) as directory:
            os.unlink(digest.hex, dir_fd=directory)

    def store(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        """Write a blob; raise ``RefusedError`` (digest-mismatch, blob-too-large) or ``OSError``."""
        with self.incoming(digest) as blob:
            for chunk in chunks:
                blob.write(chunk)
            blob.keep()

    @contextmanager
    def incoming(self, digest: Digest) -> Iterator[Incoming]:
        """Open a blob for writing, under another name until it is kept; raise ``OSError``."""
        name = f"{INCOMING}{secrets.token_hex(_NAME_BYTES)}"
        with self._opened(digest.algorithm) as directory:
            file = os.open(name, _CREATE, 0o644, dir_fd=directory)
            try:
                # Whatever mask this process has: other pods' agents read it too.
                os.fchmod(file, 0o644)
                blob = Incoming(digest, file, self._max_blob_bytes)
                yield blob
                if blob.kept:
                    os.replace(name, digest.hex, src_dir_fd=directory, dst_dir_fd=directory)
                    evict(self._directory, max_bytes=self._max_bytes, keep=digest.hex)
            finally:
                os.close(file)
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)

    def _open(self, digest: Digest) -> int | None:
        try:
            with self._opened(digest.algorithm) as directory:
                file = os.open(digest.hex, _READ, dir_fd=directory)
        except OSError:
            return None
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(file)
            return None
        # The cache may be mounted read-only, or the file be somebody else's.
        with suppress(OSError):
            os.utime(file)
        return file

    @contextmanager
    def _opened(self, algorithm: str) -> Iterator[int]:
        directory = os.open(self._directory / algorithm, _DIRECTORY)
        try:
            yield directory
        finally:
            os.close(directory)


class Incoming:
    """A blob that is being written; it gets its name once it has proved to deserve it."""

    def __init__(self, digest: Digest, file: int, max_bytes: int) -> None:
        self._digest = digest
        self._file = file
        self._max_bytes = max_bytes
        self._hash = hashlib.new(digest.algorithm)
        self._size = 0
        self.kept = False

    def write(self, chunk: bytes) -> None:
        """Append; raise ``RefusedError`` (blob-too-large) or ``OSError``."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise RefusedError("blob-too-large", "a layer is larger than this node caches", stage=Stage.FETCH)
        self._hash.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def keep(self) -> None:
        """Give the blob its name at the end of the block; raise ``RefusedError`` (digest-mismatch)."""
        actual = self._hash.hexdigest()
        if not self._digest.matches(actual):
            raise RefusedError(
                "digest-mismatch",
                "bytes do not match their digest",
                stage=Stage.FETCH,
                detail=f"{self._digest} but {actual}",
            )
        self.kept = True


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
