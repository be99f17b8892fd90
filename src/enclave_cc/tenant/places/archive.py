"""
A tar file as a directory of read-only files: members are found once, then read in any order.

An archive is a stranger's: entries are counted, paths stay below its root, a name that occurs twice has
no meaning, links are followed inside the archive only and not for ever. Nothing is unpacked. What cannot
be read in any order (a pipe, a compressed archive) is spooled to an unnamed file first.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from typing import TYPE_CHECKING, Final, NoReturn

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.tar.entry import NO_XATTRS, EntryKind, TarError
from enclave_cc.formats.tar.scanner import TarScanner
from enclave_cc.image.layers.inflate import CorruptStreamError, inflate
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.tenant.places.files import CHUNK_BYTES, read_range, unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.formats.tar.entry import TarEntry

# An image has a few files per layer; archives of many images a few thousand.
MAX_MEMBERS: Final = 100_000
# Names and targets of links of all members.
MAX_TEXT_BYTES: Final = 32 << 20
# Docker links a duplicate layer to the first one directly.
_MAX_LINKS: Final = 8
_MAGICS: Final = ((b"\x1f\x8b", Compression.GZIP), (b"\x28\xb5\x2f\xfd", Compression.ZSTD))
_MAGIC_BYTES: Final = 4


class Archive:
    """An open archive; close it when nothing is read any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open_seekable(path)
        self._members: dict[str, TarEntry] = {}
        self._text_left = MAX_TEXT_BYTES
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def has(self, name: str) -> bool:
        """Tell whether there is a file of a name."""
        return self._find(name) is not None

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._entry(name).size

    def chunks(self, name: str) -> Iterator[bytes]:
        """Stream a file; several threads may."""
        entry = self._entry(name)
        return read_range(self._file, entry.data_offset, entry.size)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small file."""
        if self.size(name) > max_bytes:
            self._refuse(f"{name}: is larger than {max_bytes} bytes")
        return b"".join(self.chunks(name))

    def compression(self, name: str) -> Compression:
        """Tell by its first bytes how a file is compressed."""
        entry = self._entry(name)
        return compression_of(os.pread(self._file, min(_MAGIC_BYTES, entry.size), entry.data_offset))

    def place_of(self, name: str) -> int:
        """Return where a file's data begins, which is the same for all names of one file."""
        return self._entry(name).data_offset

    def _scan(self) -> None:
        scanner = TarScanner(max_headers=MAX_MEMBERS)
        size = os.fstat(self._file).st_size
        try:
            for chunk in read_range(self._file, 0, size):
                for entry in scanner.feed(chunk):
                    self._add(entry)
            scanner.close()
        except TarError as error:
            raise self._error(str(error)) from error

    def _add(self, entry: TarEntry) -> None:
        name = posixpath.normpath(os.fsdecode(entry.path))
        if entry.kind is EntryKind.DIRECTORY:
            return
        if name in self._members:
            self._refuse(f"{name}: occurs twice")
        if entry.chunks is not None:
            self._refuse(f"{name}: is sparse")
        self._text_left -= len(entry.path) + len(entry.target)
        if self._text_left < 0:
            self._refuse("its names are too long together")
        # Attributes are nobody's business here, and may be a megabyte for each file.
        self._members[name] = entry._replace(path=b"", xattrs=NO_XATTRS)

    def _entry(self, name: str) -> TarEntry:
        entry = self._find(name)
        if entry is None:
            self._refuse(f"{name}: is missing")
        return entry

    def _find(self, name: str) -> TarEntry | None:
        path = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            entry = self._members.get(path)
            if entry is None or entry.kind is EntryKind.FILE:
                return entry
            target = os.fsdecode(entry.target)
            match entry.kind:
                case EntryKind.SYMBOLIC_LINK:
                    path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                case EntryKind.HARD_LINK:
                    path = posixpath.normpath(target)
                case _:
                    self._refuse(f"{name}: is no file")
        raise self._error(f"{name}: is a link to a link, too often")

    def _error(self, detail: str) -> InvalidInputError:
        return archive_error(f"{self._path}: {detail}")

    def _refuse(self, detail: str) -> NoReturn:
        raise self._error(detail)


def archive_error(detail: str) -> InvalidInputError:
    """Say that an archive makes no sense."""
    return InvalidInputError(
        "image-archive-invalid", "the image archive cannot be read", stage=Stage.CONFIG, detail=detail
    )


def compression_of(first_bytes: bytes) -> Compression:
    """Tell a compression by the first bytes of a file."""
    for magic, compression in _MAGICS:
        if first_bytes.startswith(magic):
            return compression
    return Compression.NONE


def _open_seekable(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unusable(path, error) from error
    try:
        regular = stat.S_ISREG(os.fstat(file).st_mode)
        compression = compression_of(os.pread(file, _MAGIC_BYTES, 0)) if regular else Compression.NONE
    except OSError as error:
        os.close(file)
        raise unusable(path, error) from error
    if regular and compression is Compression.NONE:
        return file
    with os.fdopen(file, "rb", buffering=0) as stream:
        return _spooled(path, iter(lambda: stream.read(CHUNK_BYTES), b""))


def _spooled(path: Path, chunks: Iterator[bytes]) -> int:
    """Copy a stream into a file without a name, decompressing it if need be."""
    first = next(chunks, b"")
    arrived = grown = 0

    def counted() -> Iterator[bytes]:
        nonlocal arrived
        for chunk in _chain(first, chunks):
            arrived += len(chunk)
            yield chunk

    try:
        with tempfile.TemporaryFile() as spool:
            for chunk in inflate(counted(), compression_of(first)):
                grown += len(chunk)
                if grown > max(arrived * DEFAULT_LIMITS.ratio, DEFAULT_LIMITS.ratio_free_bytes):
                    raise archive_error(f"{path}: grows beyond {DEFAULT_LIMITS.ratio} times its size")
                spool.write(chunk)
            spool.flush()
            return os.dup(spool.fileno())
    except CorruptStreamError as error:
        raise archive_error(f"{path}: {error}") from error
    except OSError as error:
        raise unusable(path, error) from error


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
