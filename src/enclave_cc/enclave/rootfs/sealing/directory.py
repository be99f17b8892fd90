"""
The directory of one sealed image while it is written: what appears in it, and that all of it can vanish.

One lock stands between those who still write and the one who gives up: after ``remove_all()`` nothing new
appears.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.enclave.rootfs.device.sources import open_blob
from enclave_cc.enclave.rootfs.sealing.blob import BLOB_SUFFIX, BlobWriter, create, random_name, write_all
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES
from enclave_cc.formats.sealed.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SealedDirectory:
    """``path`` is created if it does not exist, and removed again with its files only if we created it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._created = False
        with explained():
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
                self._created = True
            self._fd = os.open(path, _DIRECTORY)

    @property
    def is_open(self) -> bool:
        """Tell whether anything can still be written."""
        return self._fd >= 0

    @contextmanager
    def while_open(self) -> Iterator[None]:
        """Exclude ``remove_all()``; raise ``GivenUpError`` if it was first."""
        with self._lock:
            if self._fd < 0:
                raise GivenUpError
            yield

    def new_blob(self) -> BlobWriter:
        """Begin a file under a fresh name and a fresh key."""
        with explained(), self.while_open():
            blob = BlobWriter(self._fd)
            self._names.append(blob.name)
        return blob

    def link_blob(self, source: Path, chunks: int) -> str:
        """
        Give a blob that another image has a second, fresh name here.

        Raise ``OSError`` or ``RefusedError`` if it is not there any more or has another length; what is
        in it only its key can say.
        """
        name = random_name(BLOB_SUFFIX)
        with self.while_open():
            os.link(source, name, dst_dir_fd=self._fd, follow_symlinks=False)
            try:
                os.close(self.open_blob(name, chunks))
            except RefusedError:
                os.unlink(name, dir_fd=self._fd)
                raise
            self._names.append(name)
        return name

    def open_blob(self, name: str, chunks: int) -> int:
        """Open a complete blob for reading; raise ``RefusedError`` if it has another length."""
        return open_blob(self.path / name, chunks * STRIDE_BYTES, "a layer")

    def publish(self, manifest: bytes) -> None:
        """
        Give the complete manifest its name in one step.

        Nothing is flushed to the disk, which would wait for all the blobs: the image dies with its key,
        which only lives in memory, so none survives a crash of the host, and what is damaged the tags refuse.
        """
        name = random_name(".manifest")
        with explained():
            self._names += [name, MANIFEST_NAME]
            fd = create(self._fd, name)
            try:
                write_all(fd, manifest)
            finally:
                os.close(fd)
            os.rename(name, MANIFEST_NAME, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove_all(self) -> bool:
        """Remove what we wrote and let nobody write any more; tell whether the directory was still open."""
        with self._lock:
            if self._fd < 0:
                return False
            for name in self._names:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)
            self._close()
        if self._created:
            with suppress(OSError):
                self.path.rmdir()
        return True

    def close(self) -> None:
        """Let everything stay."""
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


@contextmanager
def explained() -> Iterator[None]:
    """Map what the disk reports; used around our own writes only, not around foreign iterators."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            "sealed-store-unwritable",
            "the sealed image could not be written",
            stage=Stage.SEAL,
            detail=str(error),
        ) from error
