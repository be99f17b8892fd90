"""The mounts below a directory, as this mount namespace sees them, and their removal."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Final

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_MNT_DETACH: Final = 2
_MOUNT_POINT_COLUMN: Final = 4


def mounts_below(directory: Path, *, table: Path = _MOUNTINFO) -> tuple[str, ...]:
    """Mount points at or below `directory`, the deepest first (proc(5), mountinfo)."""
    prefix = os.fspath(directory)
    points = [_unescaped(line.split(" ")[_MOUNT_POINT_COLUMN]) for line in table.read_text().splitlines()]
    found = [point for point in points if point == prefix or point.startswith(f"{prefix}/")]
    return tuple(sorted(found, key=len, reverse=True))


def unmount_below(directory: Path) -> None:
    """Detach every mount at or below `directory`."""
    libc = ctypes.CDLL(None, use_errno=True)
    for point in mounts_below(directory):
        libc.umount2(os.fsencode(point), _MNT_DETACH)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
