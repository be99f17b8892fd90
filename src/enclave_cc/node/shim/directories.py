"""Directory trees of a pod: private when made, removed without following links."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH103, PTH123

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_PRIVATE: Final = 0o700


def make_private(path: str) -> None:
    """Make a directory and its parents, readable by their owner only."""
    os.makedirs(path, _PRIVATE, exist_ok=True)


def write_private(path: str, data: bytes) -> None:
    """Write a small file that only its owner reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


def remove_tree(path: str) -> None:
    """
    Remove a tree as far as possible; what is absent counts as removed, links are not followed.

    What is mounted inside from another file system is left alone. An agent may nest directories deeper than
    calls can be nested.
    """
    directories = [path]
    device = _device(path)
    # The list grows while it is walked.
    for directory in directories:
        for entry in _entries(directory):
            if entry.is_dir(follow_symlinks=False):
                if _device(entry.path) == device:
                    directories.append(entry.path)
            else:
                _quietly(os.unlink, entry.path)
    for directory in reversed(directories):
        _quietly(os.rmdir, directory)


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(directory))
    except OSError:
        return []


def _device(directory: str) -> int:
    try:
        return os.lstat(directory).st_dev
    except OSError:
        return 0


def _quietly(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        return
