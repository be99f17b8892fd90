"""All that can be seen of a directory tree, to be compared with another one."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def snapshot(root: Path, *, with_directory_links: bool) -> dict[str, tuple]:
    """Say all that can be seen of each path; files that are one are so by the first path of theirs."""
    found, first = {}, {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        name = str(path.relative_to(root))
        is_directory = stat.S_ISDIR(status.st_mode)
        inode = None if is_directory else first.setdefault(status.st_ino, name)
        device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
        found[name] = (
            oct(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_mtime_ns,
            status.st_nlink if with_directory_links or not is_directory else None,
            inode,
            status.st_rdev if device else None,
            status.st_size if not is_directory else None,
            contents(path, status.st_mode),
            {key: os.getxattr(path, key, follow_symlinks=False) for key in xattr_names(path)},
        )
    return found


def xattr_names(path: Path) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if "overlay" not in name)


def contents(path: Path, mode: int) -> str:
    if stat.S_ISREG(mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return str(path.readlink()) if stat.S_ISLNK(mode) else ""
