"""
Layers made from a description: the same description gives the same bytes on every machine.

A layer is a tar without clocks and user names, optionally compressed without either. Whiteouts are
written as the image specification (layer.md) has them.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import shutil
import stat
import tarfile
from typing import IO, TYPE_CHECKING, Final, NoReturn, Self

import zstandard

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_COPY_BYTES: Final = 1 << 20
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3


class LayerBuilder:
    """
    Collects entries and writes them as a tar, in the order in which they were added.

    Paths are relative to the layer's root and may be added once; parent directories that nobody
    described appear when the layer is unpacked.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes | Path]] = {}

    def file(
        self, path: str, content: bytes | Path, *, mode: int = 0o644, uid: int = 0, gid: int = 0
    ) -> Self:
        """Add a regular file, from memory or from a file that is read when the layer is written."""
        info = _info(path, tarfile.REGTYPE, mode, uid, gid)
        info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
        return self._add(info, content)

    def directory(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Self:
        """Add a directory."""
        return self._add(_info(path, tarfile.DIRTYPE, mode, uid, gid))

    def symlink(self, path: str, target: str, *, uid: int = 0, gid: int = 0) -> Self:
        """Add a symbolic link."""
        info = _info(path, tarfile.SYMTYPE, 0o777, uid, gid)
        info.linkname = target
        return self._add(info)

    def hardlink(self, path: str, target: str) -> Self:
        """Add another name for a file of this layer."""
        info = _info(path, tarfile.LNKTYPE, 0o644, 0, 0)
        info.linkname = _relative(target)
        return self._add(info)

    def whiteout(self, path: str) -> Self:
        """Delete a path of the layers below."""
        directory, name = posixpath.split(_relative(path))
        return self._add(_info(posixpath.join(directory, f"{_WHITEOUT}{name}"), tarfile.REGTYPE, 0, 0, 0))

    def opaque(self, path: str) -> Self:
        """Hide everything that the layers below have in a directory."""
        return self._add(_info(posixpath.join(_relative(path), _OPAQUE), tarfile.REGTYPE, 0, 0, 0))

    def tree(
        self, directory: Path, *, at: str = "", owners: Mapping[Path, tuple[int, int]] | None = None
    ) -> Self:
        """
        Add a directory of this machine, sorted by name, everything owned by root unless ``owners`` says so.

        Regular files, directories and symbolic links are taken; anything else is refused.
        """
        for source in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix()):
            uid, gid = (owners or {}).get(source, (0, 0))
            path = posixpath.join(at, source.relative_to(directory).as_posix())
            status = source.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                self.symlink(path, str(source.readlink()), uid=uid, gid=gid)
            elif stat.S_ISDIR(status.st_mode):
                self.directory(path, mode=mode, uid=uid, gid=gid)
            elif stat.S_ISREG(status.st_mode):
                self.file(path, source, mode=mode, uid=uid, gid=gid)
            else:
                _refuse(f"{source}: is neither file, directory nor symbolic link")
        return self

    def write_to(self, out: IO[bytes]) -> None:
        """Write the tar."""
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for info, content in self._entries.values():
                if isinstance(content, bytes):
                    archive.addfile(info, io.BytesIO(content))
                    continue
                with content.open("rb") as stream:
                    archive.addfile(info, stream)

    def tar(self) -> bytes:
        """Return the tar."""
        out = io.BytesIO()
        self.write_to(out)
        return out.getvalue()

    def _add(self, info: tarfile.TarInfo, content: bytes | Path = b"") -> Self:
        if info.name in self._entries:
            _refuse(f"{info.name}: is described twice")
        self._entries[info.name] = (info, content)
        return self


def compress(source: IO[bytes], out: IO[bytes], compression: Compression) -> None:
    """Compress a stream, leaving no trace of when and where."""
    match compression:
        case Compression.NONE:
            shutil.copyfileobj(source, out, _COPY_BYTES)
        case Compression.GZIP:
            with gzip.GzipFile(
                filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=out, mtime=0
            ) as stream:
                shutil.copyfileobj(source, stream, _COPY_BYTES)
        case Compression.ZSTD:
            zstandard.ZstdCompressor(level=_ZSTD_LEVEL).copy_stream(source, out)


def _info(path: str, kind: bytes, mode: int, uid: int, gid: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(_relative(path))
    info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, gid, 0
    return info


def _relative(path: str) -> str:
    """Write a path as tars of layers do: relative, without dots."""
    clean = posixpath.normpath(path.lstrip("/"))
    if clean in {".", ".."} or clean.startswith(f"..{os.sep}"):
        _refuse(f"{path}: is not below the layer's root")
    return clean


def _refuse(detail: str) -> NoReturn:
    raise InvalidInputError(
        "image-layer-invalid", "the layer cannot be described like this", stage=Stage.CONFIG, detail=detail
    )
