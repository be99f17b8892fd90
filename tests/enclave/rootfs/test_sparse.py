"""Sparse files that real archivers wrote are mounted with every byte in place, by the kernel and by us."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.formats.tar.sparse_archives import END, FORMATS

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "scattered": (1 << 20, [(0, 4096), (65536, 5000), (500_000, 10), ((1 << 20) - 3, 3)]),
    "hole": (1 << 30, []),
    "comb": (1 << 22, [(offset, 4096) for offset in range(4096, 1 << 22, 32768)]),
    "tail": (1_000_003, [(999_000, 1003)]),
    "head": (1_000_003, [(0, 100)]),
    "far": ((1 << 36) + 5, [(1 << 35, 100), ((1 << 36) - 4096, 4101)]),
}
WRITERS = {
    "gnu tar 0.0": ["tar", "--format=pax", "--sparse", "--sparse-version=0.0"],
    "gnu tar 0.1": ["tar", "--format=pax", "--sparse", "--sparse-version=0.1"],
    "gnu tar 1.0": ["tar", "--format=pax", "--sparse", "--sparse-version=1.0"],
    "gnu tar, old format": ["tar", "--format=gnu", "--sparse"],
    "gnu tar, by content": ["tar", "--format=pax", "--sparse", "--hole-detection=raw"],
    "bsdtar": ["bsdtar", "--format=pax", "--read-sparse"],
}


def write_sparse(path: Path, size: int, segments) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in segments:
            os.pwrite(file.fileno(), os.urandom(length), offset)


def check_same(path: Path, original: Path, segments) -> None:
    """Compare around each segment, and everything if that is not too much."""
    size = original.stat().st_size
    assert path.stat().st_size == size
    if size <= 1 << 22:
        assert path.read_bytes() == original.read_bytes()
    with path.open("rb") as mine, original.open("rb") as theirs:
        for start in {max(0, offset - 5000) for offset, _ in segments} | {0, max(0, size - 5000)}:
            assert os.pread(mine.fileno(), 20_000, start) == os.pread(theirs.fileno(), 20_000, start)


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("writer", WRITERS)
def test_sparse_files_of_real_archivers_are_mounted(*, tmp_path, seal, in_private_mounts, writer, backend):
    command = WRITERS[writer]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    # Finding holes by reading takes a while on the large ones.
    wanted = ["scattered", "comb", "tail", "head"] if "content" in writer else list(FILES)
    for name in wanted:
        write_sparse(tmp_path / name, *FILES[name])
    result = subprocess.run([*command, "-cf", "-", *wanted], cwd=tmp_path, check=True, capture_output=True)
    assert len(result.stdout) < 4 << 20, "the archiver did not write the files as sparse ones"
    sealed = seal(result.stdout)

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        for name in wanted:
            check_same(mounted.mountpoint / name, tmp_path / name, FILES[name][1])
        mounted.close()

    in_private_mounts(body)


ODD = [(0, 700), (1024, 512), (9000, 1), (9216, 3072), (20_480, 4096), (30_000, 12_288)]


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("version", sorted(FORMATS))
def test_segments_of_odd_sizes_are_mounted(*, tmp_path, seal, in_private_mounts, version, backend):
    data = os.urandom(sum(length for _, length in ODD))
    sealed = seal(FORMATS[version](50_000, ODD, data) + END)
    expected, place = bytearray(50_000), 0
    for offset, length in ODD:
        expected[offset : offset + length] = data[place : place + length]
        place += length

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        name = "real" if version in {"0.1", "1.0"} else "file"
        assert (mounted.mountpoint / name).read_bytes() == expected
        mounted.close()

    in_private_mounts(body)
