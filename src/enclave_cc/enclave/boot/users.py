"""
The image's user, looked up in the image's own files.

``etc/passwd`` and ``etc/group`` are read below the mounted root without following a symbolic link, since
a link would be resolved by the host's root. Nothing but a plain file is ever opened: a device of the host's
may do something when it is. Sizes are bounded; lines that make no sense are skipped, as
libc does.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.resolved_user import MAX_GROUPS, ResolvedUser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Distributions have two kilobytes; directories of thousands of users a few hundred.
MAX_FILE_BYTES: Final = 1 << 20
_MAX_ID: Final = (1 << 32) - 2
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Names a file without opening it.
_NAME: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC
_PASSWD_FIELDS: Final = 4
_GROUP_FIELDS: Final = 4


def resolve_user(rootfs: Path, user: str) -> ResolvedUser:
    """
    Resolve ``user``, ``uid``, ``user:group``, ``uid:gid`` or nothing (root), as container engines do.

    An explicit group replaces the user's groups. Raise ``InvalidInputError`` (``image-user-unknown``) for
    a name that the image does not know.
    """
    name, _, group = user.partition(":")
    entry = _find_user(rootfs, name or "0")
    uid, gid, login = entry if entry is not None else (_number(name, user), 0, "")
    if group:
        return ResolvedUser(uid, _group_id(rootfs, group, user))
    return ResolvedUser(uid, gid, tuple(_groups_of(rootfs, login, gid)) if login else ())


def _find_user(rootfs: Path, name: str) -> tuple[int, int, str] | None:
    """Return uid, gid and login of a name, or of a number that some login has."""
    for fields in _entries(rootfs, "passwd", _PASSWD_FIELDS):
        login, uid, gid = fields[0], fields[2], fields[3]
        if _is_id(uid) and _is_id(gid) and (login == name or (_is_id(name) and int(uid) == int(name))):
            return int(uid), int(gid), login
    return None


def _group_id(rootfs: Path, group: str, user: str) -> int:
    for fields in _entries(rootfs, "group", _GROUP_FIELDS - 1):
        if fields[0] == group and _is_id(fields[2]):
            return int(fields[2])
    return _number(group, user)


def _groups_of(rootfs: Path, login: str, gid: int) -> Iterator[int]:
    found: set[int] = set()
    for fields in _entries(rootfs, "group", _GROUP_FIELDS):
        if login in fields[3].split(",") and _is_id(fields[2]) and int(fields[2]) not in {*found, gid}:
            found.add(int(fields[2]))
            yield int(fields[2])
            if len(found) == MAX_GROUPS:
                return


def _number(text: str, user: str) -> int:
    if _is_id(text or "0"):
        return int(text or "0")
    finding = Finding(
        "launch.user", Outcome.FAILED, "a user of the image", user[:256], "add the user to the image"
    )
    raise InvalidInputError(
        "image-user-unknown",
        "the image does not know the user that it names",
        stage=Stage.LAUNCH,
        detail=f"neither a number nor in etc/passwd or etc/group: {text[:256]!r}",
        findings=(finding,),
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_ID)) and int(text) <= _MAX_ID


def _entries(rootfs: Path, name: str, fields: int) -> Iterator[list[str]]:
    for line in _read_below(rootfs, name).decode("utf-8", "replace").split("\n"):
        entry = line.split(":")
        if len(entry) >= fields and not line.startswith("#"):
            yield entry


def _read_below(rootfs: Path, name: str) -> bytes:
    """Read a plain file of the image's ``etc``; anything else reads as empty."""
    opened: list[int] = []
    try:
        for path, flags in ((os.fspath(rootfs), _DIRECTORY), ("etc", _DIRECTORY), (name, _NAME)):
            opened.append(os.open(path, flags, dir_fd=opened[-1] if opened else None))
        if not _is_plain(opened[-1]):
            return b""
        opened.append(os.open(f"/proc/self/fd/{opened[-1]}", _FILE))
        return _read_all(opened[-1])
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise InvalidInputError(
            "image-user-unknown",
            "the image's user files cannot be read",
            stage=Stage.LAUNCH,
            detail=f"etc/{name}: {error.strerror}",
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _is_plain(descriptor: int) -> bool:
    """Tell whether what is named is a plain file; raise OSError for a symbolic link."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return stat.S_ISREG(mode)


def _read_all(descriptor: int) -> bytes:
    data = bytearray()
    while chunk := os.read(descriptor, 1 << 16):
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInputError(
                "image-user-unknown", "the image's user files are too large", stage=Stage.LAUNCH
            )
    return bytes(data)
