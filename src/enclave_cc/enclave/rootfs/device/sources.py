"""
Where sealed chunks lie: files that the host can change at any time, or memory.

Nothing is checked here. What is read is copied into private memory, and whoever asked checks the copy.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from pathlib import Path

# O_NONBLOCK: a host that puts a pipe in a blob's place must not make us wait for its writer.
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ChunkSource(Protocol):
    """Where the sealed chunks of one blob lie."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy sealed bytes into private memory; return how many there were."""


class FileSource:
    """A blob in a file that belongs to the host."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read until the buffer is full or the file ends."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done


class MemorySource:
    """A blob in memory."""

    def __init__(self, sealed: bytes | bytearray) -> None:
        self._sealed = memoryview(sealed)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy what there is."""
        part = self._sealed[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


def open_blob(path: Path, expected_bytes: int, region: str) -> int:
    """
    Open a blob; raise ``RefusedError`` if it is missing, no plain file, or of another length.

    ``region`` says to the owner which part of the image it is.
    """
    expected = f"{expected_bytes} bytes"
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise _truncated(path.name, expected, f"{region}: {error.strerror}") from error
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size == expected_bytes:
        return fd
    os.close(fd)
    kind = "" if stat.S_ISREG(status.st_mode) else "no plain file, "
    raise _truncated(path.name, expected, f"{region}: {kind}{status.st_size} bytes")


def _truncated(name: str, expected: str, actual: str) -> RefusedError:
    return RefusedError(
        "sealed-blob-truncated",
        "a part of the sealed image is missing or has the wrong size",
        stage=Stage.MOUNT,
        detail=f"{name}: {actual} instead of {expected}",
        findings=(Finding("rootfs.blob", Outcome.FAILED, expected, actual),),
    )
