"""
Keep what the workload writes in memory.

Its pages are charged to whoever writes them, so to the container's own memory limit; inodes too.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag, mount, unmount

if TYPE_CHECKING:
    from contextlib import ExitStack

# A file takes about a KiB of the kernel's memory that the size does not count.
_BYTES_PER_INODE: Final = 4096
_MIN_INODES: Final = 1024
_SWAPS: Final = Path("/proc/swaps")
_SWAPPED: Final = (
    "rootfs: this kernel may swap what the workload writes to the host's disk: turn swap off, or use 6.4"
)


def mount_memory(target: Path, size_bytes: int, cleanup: ExitStack) -> None:
    """Mount memory onto a directory; raise OSError. It is never swapped where the kernel can promise that."""
    inodes = max(_MIN_INODES, size_bytes // _BYTES_PER_INODE)
    options = f"mode=0700,size={size_bytes},nr_inodes={inodes}"
    try:
        mount("sealed-scratch", target, "tmpfs", MountFlag.NONE, f"{options},noswap")
    except OSError as error:
        # Linux before 6.4 does not know the option.
        if error.errno != errno.EINVAL:
            raise
        mount("sealed-scratch", target, "tmpfs", MountFlag.NONE, options)
        if _is_swapping():
            sys.stderr.write(f"{_SWAPPED}\n")
    cleanup.callback(unmount, target)


def _is_swapping() -> bool:
    """Tell whether the host has swap; one that does not say is taken at its worst."""
    try:
        # The first line names the columns.
        return len(_SWAPS.read_bytes().splitlines()) > 1
    except OSError:
        return True
