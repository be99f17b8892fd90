"""
Files of a sealed image, created in a directory that the host can read and change.

Every file is new: an unpredictable name, no following of links, readable by us only. A blob that
could not be completed is never continued, because its key must not seal anything twice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from enclave_cc.core.secret import Secret
from enclave_cc.formats.sealed.chunks import ChunkSealer
from enclave_cc.formats.sealed.manifest import KEY_BYTES, SealedBlob

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.chunks import Octets

BLOB_SUFFIX: Final = ".blob"
_NAME_BYTES: Final = 16
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def random_name(suffix: str) -> str:
    """Return a file name that nobody can have prepared."""
    return os.urandom(_NAME_BYTES).hex() + suffix


def create(directory_fd: int, name: str) -> int:
    """Create a file that did not exist and return its descriptor."""
    return os.open(name, _CREATE, mode=0o600, dir_fd=directory_fd)


def write_all(fd: int, data: Octets) -> None:
    """Write everything, however small the steps of the kernel are."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class BlobWriter:
    """Seal one stream into one new file under one new key."""

    def __init__(self, directory_fd: int) -> None:
        self.name = random_name(BLOB_SUFFIX)
        self._key = Secret.random(KEY_BYTES)
        self._sealer = ChunkSealer(self._key)
        self._fd = create(directory_fd, self.name)

    @property
    def chunks(self) -> int:
        """Return how many chunks were sealed so far."""
        return self._sealer.chunks

    def write(self, data: Octets) -> None:
        """Seal the next piece of the stream."""
        for sealed in self._sealer.feed(data):
            write_all(self._fd, sealed)

    def finish(self) -> SealedBlob:
        """Seal the rest and say how the blob is opened; the caller owns the key from then on."""
        write_all(self._fd, self._sealer.finish())
        self._close()
        return SealedBlob(self.name, self._sealer.chunks, self._key)

    def abandon(self) -> None:
        """Forget the key and close the file, whatever was written."""
        self._key.wipe()
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
