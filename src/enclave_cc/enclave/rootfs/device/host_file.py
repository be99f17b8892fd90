"""
A file on the host's disk that never has a name, so that nothing of it outlives the process that has it open.

It is read and written past the page cache. Pages that wait to be written back would have to be waited
for when memory is short, by the very process that others wait for then.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.device.sources import FileSource
from enclave_cc.enclave.rootfs.mounting.system_calls import punch_hole

if TYPE_CHECKING:
    from pathlib import Path

_ACCESS: Final = os.O_RDWR | os.O_CLOEXEC
_PROBE_BYTES: Final = 4096
# What file systems say that have no unnamed files, or whose kernel does not know them.
_NO_UNNAMED: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class HostFile:
    """Room for ciphertext; the host's disk is only used where something was written."""

    def __init__(self, directory: Path, size: int) -> None:
        """Make it on the file system of a directory; raise OSError."""
        self._fd = _open_unnamed(directory)
        try:
            os.ftruncate(self._fd, size)
            _bypass_page_cache(self._fd)
        except OSError:
            os.close(self._fd)
            raise
        self._source = FileSource(self._fd)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read until the buffer is full or the file ends."""
        return self._source.read_into(offset, buffer)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of it, or raise OSError."""
        while data:
            count = os.pwrite(self._fd, data, offset)
            data, offset = data[count:], offset + count

    def punch(self, offset: int, size: int) -> None:
        """Give the room back; raise OSError if the file system cannot."""
        punch_hole(self._fd, offset, size)

    def close(self) -> None:
        """Let the host have its room back."""
        os.close(self._fd)


def _open_unnamed(directory: Path) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | _ACCESS, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    path = directory / f"scratch-{secrets.token_hex(8)}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _ACCESS, 0o600)
    path.unlink()
    return fd


def _bypass_page_cache(fd: int) -> None:
    """Read and write directly, unless the file system has no such thing (memory has not)."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        with mmap.mmap(-1, _PROBE_BYTES) as probe:
            os.preadv(fd, [probe], 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
