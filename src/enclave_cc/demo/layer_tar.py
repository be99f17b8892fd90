"""
Make the tar of one image layer in memory, the same bytes for the same input: fixed times, owners, order.

The demo's images are built without Docker and without root rights in a file system: nothing is unpacked on
the way.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WHITEOUT_PREFIX = ".wh."
# 2023-06-10, the day of Debian 12: any constant would do.
MODIFIED_AT_S = 1_686_355_200


class LayerTar:
    """An append-only layer; parents of every path are made on the way."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._buffer, mode="w:", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed in `finish`
        self._directories: set[str] = set()

    def directory(self, path: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """Add a directory once; a later call with the same path is ignored."""
        if path in self._directories:
            return
        self._parents(path)
        self._directories.add(path)
        self._append(path, tarfile.DIRTYPE, mode=mode, owner=owner)

    def file(self, path: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> None:
        """Add a regular file."""
        self._parents(path)
        self._append(path, tarfile.REGTYPE, content=content, mode=mode, owner=owner)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._parents(path)
        self._append(path, tarfile.SYMTYPE, target=target, mode=0o777)

    def whiteout(self, path: str) -> None:
        """Remove `path` of the layers below (OCI image-spec, layer.md, "Whiteouts")."""
        parent, _, name = path.rpartition("/")
        self.file(f"{parent}/{WHITEOUT_PREFIX}{name}".lstrip("/"), b"", mode=0o600)

    def entries(self, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> None:
        """Take over the files of a Debian package with their modes; the owner is root in all that we use."""
        for entry, content in entries:
            if entry.isdir():
                self.directory(entry.name, mode=entry.mode)
            elif entry.issym():
                self.symlink(entry.name, entry.linkname)
            elif entry.islnk():
                self._append(entry.name, tarfile.LNKTYPE, target=entry.linkname, mode=entry.mode)
            elif entry.isreg():
                self.file(entry.name, content, mode=entry.mode)

    def finish(self) -> bytes:
        """Return the whole archive; nothing can be added afterwards."""
        self._archive.close()
        return self._buffer.getvalue()

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent:
            self.directory(parent)

    def _append(
        self, path: str, kind: bytes, *, content: bytes = b"", target: str = "", mode: int, owner: int = 0
    ) -> None:
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = kind, target, mode & 0o7777
        entry.uid = entry.gid = owner
        entry.size, entry.mtime = len(content), MODIFIED_AT_S
        self._archive.addfile(entry, io.BytesIO(content))
