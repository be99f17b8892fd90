"""
Read Debian binary packages: an `ar` archive around a compressed tar of files.

Pure reading: nothing is written to disk and no maintainer script is looked at. Format: deb(5), ar(5). The
packages come from the machine's own apt, which has verified them; the bounds are for broken downloads.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from typing import TYPE_CHECKING, Final

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

_AR_MAGIC: Final = b"!<arch>\n"
_AR_HEADER_BYTES: Final = 60
_AR_TRAILER: Final = b"`\n"
# The largest package of the server's closure unpacks to 13 MB; a hundred would be a broken download.
MAX_UNPACKED_BYTES: Final = 256 << 20


class DebError(ValueError):
    """The bytes are not a Debian package that we can read."""


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an `ar` archive's members, in order."""
    if not archive.startswith(_AR_MAGIC):
        raise DebError("no ar archive")
    at = len(_AR_MAGIC)
    while at < len(archive):
        header = archive[at : at + _AR_HEADER_BYTES]
        if len(header) < _AR_HEADER_BYTES or header[58:60] != _AR_TRAILER:
            raise DebError("broken ar header")
        size = _decimal(header[48:58])
        at += _AR_HEADER_BYTES
        if at + size > len(archive):
            raise DebError("ar member is cut off")
        yield header[:16].decode("ascii", "replace").rstrip(" ").rstrip("/"), archive[at : at + size]
        at += size + size % 2


def data_tar(package: bytes) -> bytes:
    """Return the uncompressed tar of the package's files."""
    for name, content in members(package):
        match name:
            case "data.tar":
                return content
            case "data.tar.xz":
                return _bounded(lzma.LZMAFile(io.BytesIO(content)))
            case "data.tar.gz":
                return _bounded(gzip.GzipFile(fileobj=io.BytesIO(content)))
            case "data.tar.zst":
                return _bounded(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)))
            case _:
                continue
    raise DebError("no data member that we can read")


def files(package: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """List the package's entries, names without a leading "./", contents for regular files, else b""."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data_tar(package)), mode="r:") as archive:
            for entry in archive:
                entry.name = _relative(entry.name)
                if entry.islnk():
                    entry.linkname = _relative(entry.linkname)
                stream = archive.extractfile(entry) if entry.isreg() else None
                if entry.name:
                    yield entry, stream.read() if stream else b""
    except tarfile.TarError as error:
        raise DebError(f"broken data member: {error}") from error


def _decimal(text: bytes) -> int:
    digits = text.strip(b" ")
    if not digits.isdigit():
        raise DebError("broken ar size")
    return int(digits)


def _relative(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DebError("name leaves the package")
    return "/".join(parts)


def _bounded(stream: io.BufferedIOBase | zstandard.ZstdDecompressionReader) -> bytes:
    try:
        data = stream.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise DebError(f"broken compression: {error}") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise DebError("package unpacks to more than we accept")
    return data
