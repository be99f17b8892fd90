"""
Keeps the blob cache within its bound, across processes that come and go and may be killed.

The least recently used blobs go first; what interrupted writers left goes when nobody has written to
it for an hour. Removing needs no agreement between processes: a file that is open stays readable,
and one that is gone is fetched again. The lock only spares them doing the same at the same time.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from enclave_cc.core.digest import HEX_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INCOMING: Final = ".incoming-"
STALE_S: Final = 3600.0
_LOCK: Final = ".lock"
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Whoever fills the directory with names must not occupy everybody who looks through it.
_MAX_ENTRIES: Final = 100_000
# Somebody may hold the lock for ever; the bound is kept all the same, a little later.
_PATIENCE: Final = 1.25


class _Blob(NamedTuple):
    used_ns: int
    size: int
    name: str
    algorithm: str


def evict(directory: Path, *, max_bytes: int, keep: str) -> None:
    """Remove stale writings and, beyond the bound, the least recently used blobs but ``keep``."""
    with _locked(directory) as alone:
        for algorithm in HEX_CHARS:
            with _opened(directory, algorithm) as opened:
                _sweep(opened)
        blobs = sorted(_blobs(directory))
        excess = sum(blob.size for blob in blobs) - (max_bytes if alone else int(max_bytes * _PATIENCE))
        for blob in blobs:
            if excess <= 0:
                return
            if blob.name != keep and not blob.name.startswith(INCOMING):
                with _opened(directory, blob.algorithm) as opened:
                    _unlink(blob.name, opened)
                excess -= blob.size


def _blobs(directory: Path) -> Iterator[_Blob]:
    """List what takes up space: blobs, and what is being written."""
    for algorithm, length in HEX_CHARS.items():
        with _opened(directory, algorithm) as opened:
            for name, status in _files(opened):
                if len(name) == length or name.startswith(INCOMING):
                    yield _Blob(status.st_mtime_ns, status.st_size, name, algorithm)


def _sweep(opened: int | None) -> None:
    oldest = time.time() - STALE_S
    for name, status in _files(opened):
        if name.startswith(INCOMING) and status.st_mtime < oldest:
            _unlink(name, opened)


def _files(opened: int | None) -> Iterator[tuple[str, os.stat_result]]:
    if opened is None:
        return
    with os.scandir(opened) as entries:
        for entry in islice(entries, _MAX_ENTRIES):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield entry.name, status


def _unlink(name: str, opened: int | None) -> None:
    if opened is not None:
        with suppress(OSError):
            os.unlink(name, dir_fd=opened)


@contextmanager
def _opened(directory: Path, algorithm: str) -> Iterator[int | None]:
    try:
        opened = os.open(directory / algorithm, _DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Tell whether nobody else is at it."""
    try:
        lock = os.open(directory / _LOCK, _LOCK_FLAGS, 0o644)
    except OSError:
        yield False
        return
    try:
        yield _lock(lock)
    finally:
        os.close(lock)


def _lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
