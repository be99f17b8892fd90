"""How far the kernel reads ahead. A wish: everything works without, in more and smaller requests."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_SET_READ_AHEAD: Final = 0x1262  # BLKRASET
_SECTOR: Final = 512


def read_ahead_in_mount(mounted: Path, size_bytes: int) -> None:
    """Have the kernel do so in what is mounted there; what is open already keeps the limit that it has."""
    device = mounted.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    # Read-only in many containers.
    with suppress(OSError):
        Path("/sys/class/bdi", number, "read_ahead_kb").write_text(str(size_bytes >> 10))


def read_ahead_on_disk(fd: int, size_bytes: int) -> None:
    """Have the kernel do so on a block device."""
    with suppress(OSError):
        fcntl.ioctl(fd, _SET_READ_AHEAD, size_bytes // _SECTOR)
