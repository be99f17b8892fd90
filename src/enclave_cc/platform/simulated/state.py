"""The platform's secrets on disk: its fuse key and the keys of its PKI.

`<state>/private` (0700) holds secrets, `<state>/public` (0755) what everybody may read. Whatever another
user could have prepared or changed is refused: wrong owner, group or others may write, symbolic links.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Keys and certificates; nothing here is larger.
_MAX_FILE_BYTES: Final = 64 << 10
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ANY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class PlatformState:
    """The opened state directory. `uid` owns everything in it."""

    def __init__(self, root: Path, *, uid: int) -> None:
        """Open or create; RefusedError `platform-state-refused` when it is not safely ours."""
        self._uid = uid
        self._private = root / "private"
        self.public = root / "public"
        root.parent.mkdir(parents=True, exist_ok=True)
        for directory, mode in ((root, 0o755), (self._private, 0o700), (self.public, 0o755)):
            self._make(directory, mode)
            self._check(directory.lstat(), stat.S_IFDIR, directory)
        if self._private.lstat().st_mode & _ANY_OTHERS:
            raise _refused(self._private, "is open to others")

    def secret(self, name: str, create: Callable[[], bytes]) -> bytes:
        """Read a private file, or create it once with what `create` returns."""
        path = self._private / name
        try:
            return self._read(path)
        except FileNotFoundError:
            self._write_new(path, create())
            return self._read(path)

    def publish(self, name: str, data: bytes) -> None:
        """Replace a public file as a whole."""
        temporary = self.public / f".{name}.new"
        temporary.unlink(missing_ok=True)
        self._write_new(temporary, data, mode=0o644)
        temporary.replace(self.public / name)

    def _read(self, path: Path) -> bytes:
        descriptor = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(descriptor)
            self._check(status, stat.S_IFREG, path)
            if status.st_mode & _ANY_OTHERS:
                raise _refused(path, "is open to others")
            data = file.read(_MAX_FILE_BYTES + 1)
        if not 0 < len(data) <= _MAX_FILE_BYTES:
            raise _refused(path, "is empty or too long")
        return data

    def _write_new(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Write a file that does not exist yet, and bring it to the disk before it counts."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = self._open(path, flags, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            os.fchmod(descriptor, mode)
            self._own(descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)

    def _open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        try:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused(path, str(error)) from error

    def _make(self, directory: Path, mode: int) -> None:
        try:
            directory.mkdir(mode=mode)
        except FileExistsError:
            return
        directory.chmod(mode)
        if os.geteuid() == 0:
            os.chown(directory, self._uid, -1, follow_symlinks=False)

    def _own(self, descriptor: int) -> None:
        if os.geteuid() == 0:
            os.fchown(descriptor, self._uid, -1)

    def _check(self, status: os.stat_result, kind: int, path: Path) -> None:
        if stat.S_IFMT(status.st_mode) != kind:
            raise _refused(path, "is of the wrong kind")
        if status.st_uid != self._uid:
            raise _refused(path, "belongs to another user")
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise _refused(path, "can be changed by others")


def _refused(path: Path, reason: str) -> RefusedError:
    return RefusedError(
        "platform-state-refused",
        "the simulated platform's state is not safely its own",
        stage=Stage.PLATFORM,
        detail=f"{path}: {reason}",
    )
