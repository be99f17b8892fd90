"""What is read from a root file system, the same way everywhere; each returns the seconds that it took."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

DATA_NAME: Final = "data.bin"
DATA_BYTES: Final = 128 << 20
_PIECE_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 4096
# The two extremes: each block of the file once; and so few that hardly two lie in the same 64 KiB.
DENSE_READS: Final = DATA_BYTES // _BLOCK_BYTES
SPARSE_READS: Final = 512
_SMALL_FILE: Final = "etc/debian_version"
PYTHON: Final = ("/usr/bin/python3", "-B", "-c")


def find(root: Path) -> float:
    """Look at every file's attributes."""
    return _timed("find", str(root), "-printf", "%s %m %U %T@ %p\n")


def tar(root: Path) -> float:
    """Read everything; to /dev/zero, because tar reads no contents when it writes to /dev/null."""
    return _timed("tar", "-cf", "/dev/zero", "-C", str(root), ".")


def sequential(root: Path) -> float:
    """Read one file from beginning to end."""
    buffer = bytearray(_PIECE_BYTES)
    begun = time.perf_counter()
    with (root / DATA_NAME).open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - begun


def random_dense(root: Path) -> float:
    """Return the mean of 4 KiB reads all over a file, each block once."""
    return _fio(root, DENSE_READS)


def random_sparse(root: Path) -> float:
    """Return the mean of 4 KiB reads, so few that what lies around them does not help the next."""
    return _fio(root, SPARSE_READS)


def python(root: Path) -> float:
    """Start Python with two modules of its library."""
    return _timed("chroot", str(root), *PYTHON, "import json,ssl")


def first_exec(root: Path) -> float:
    """Start Python with nothing but what it needs itself."""
    return _timed("chroot", str(root), *PYTHON, "pass")


def first_byte(root: Path) -> float:
    """Read one byte of one file."""
    begun = time.perf_counter()
    with (root / _SMALL_FILE).open("rb", buffering=0) as file:
        file.read(1)
    return time.perf_counter() - begun


def cpu_s(pid: int) -> float:
    """User and system time of a running process, all its threads together."""
    spent_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        # A thread may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            spent_ns += int(path.read_text().split()[0])
    return spent_ns / 1e9


def memory_mb(pid: int) -> float:
    """Return a process's share of memory: its own pages, and its part of those that it shares (PSS)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise RuntimeError("the kernel does not tell how memory is shared")
    return int(found[1]) * 1024 / 1e6


def forget() -> None:
    """Write what is dirty, drop every clean page, name and inode; then load again what reads."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    for program in ("find", "tar", "chroot"):
        _timed(program, "--version")


def remember(home: Path) -> None:
    """Bring a directory's files into the page cache."""
    buffer = bytearray(_PIECE_BYTES)
    for directory, _names, files in os.walk(home):
        for name in files:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass


def _timed(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def _fio(root: Path, reads: int) -> float:
    options = {
        "name": "random",
        "filename": str(root / DATA_NAME),
        "rw": "randread",
        "bs": str(_BLOCK_BYTES),
        "size": str(DATA_BYTES),
        "io_size": str(reads * _BLOCK_BYTES),
        "ioengine": "psync",
        "invalidate": "0",
        "output-format": "json",
    }
    command = ("fio", "--readonly", "--thread", *(f"--{name}={value}" for name, value in options.items()))
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return float(report["jobs"][0]["read"]["lat_ns"]["mean"]) / 1e9
