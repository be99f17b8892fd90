"""A memory cgroup of either version: what is charged to whom, and what happens without memory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIFIED = Path("/sys/fs/cgroup")
LEGACY = Path("/sys/fs/cgroup/memory")


class MemoryCgroup:
    def __init__(self, path: Path, limit: str, usage: str) -> None:
        self._path = path
        self._limit = path / limit
        self._usage = path / usage

    def limit(self, size: int) -> None:
        self._limit.write_text(str(size))

    def enter(self) -> None:
        """Move the calling process in."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def usage(self) -> int:
        return int(self._usage.read_text())


@contextmanager
def memory_cgroup() -> Iterator[MemoryCgroup]:
    """Make an empty cgroup and remove it, or skip the test."""
    name = f"enclave-cc-test-{os.getpid()}"
    if (LEGACY / "memory.limit_in_bytes").exists():
        cgroup = MemoryCgroup(LEGACY / name, "memory.limit_in_bytes", "memory.usage_in_bytes")
    else:
        cgroup = MemoryCgroup(UNIFIED / name, "memory.max", "memory.current")
    try:
        cgroup._path.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    try:
        if not cgroup._limit.exists():
            pytest.skip("cgroups of this machine do not limit memory")
        yield cgroup
    finally:
        cgroup._path.rmdir()
