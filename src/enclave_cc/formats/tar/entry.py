"""What one tar entry says, as a value. Its paths are bytes, and still untrusted."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.tar.chunked import ChunkedFile

# The kernel's limits (PATH_MAX, XATTR_NAME_MAX, XATTR_SIZE_MAX): a workload could use nothing longer.
MAX_PATH_BYTES: Final = 4096
MAX_XATTR_NAME_BYTES: Final = 255
MAX_XATTR_VALUE_BYTES: Final = 65535
# EROFS stores 32-bit owners, and so does the kernel.
MAX_OWNER: Final = (1 << 32) - 1
NO_XATTRS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class TarError(ValueError):
    """The stream is not a tar archive that we accept."""


class EntryKind(Enum):
    """The types of entry a layer may hold; everything else is refused."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


class TarEntry(NamedTuple):
    """
    One entry; ``data_offset`` is where its data begins in the stream.

    ``mode`` holds permission bits only. The time is ``mtime_s``, which may be negative, plus
    ``mtime_ns``, 0 to 999 999 999. ``size`` is 0 for everything but files. A sparse file has ``chunks``,
    and its ``size`` counts the holes. A tuple, because a layer has hundreds of thousands and frozen
    dataclasses are slow to make.
    """

    path: bytes
    kind: EntryKind
    data_offset: int
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = NO_XATTRS
    chunks: ChunkedFile | None = None
