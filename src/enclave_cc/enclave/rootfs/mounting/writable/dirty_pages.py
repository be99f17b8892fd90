"""
Have whoever writes to the scratch wait for its disk in time, and not when there is no memory left.

The kernel lets a disk have a share of the machine's memory in pages that wait to be written. A container
with a small limit would be full of them, and killed for it where the kernel cannot wait (control groups
v1). With a bound for this disk alone the writer is slowed down instead.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from contextlib import ExitStack

# Some tenths of a second of the disk's time, and no large part of any container's memory.
_BYTES: Final = 16 << 20
# Not what it was before: that may be what somebody left who was killed.
_AS_THE_KERNEL_HAS_IT: Final = (("max_ratio", "100"), ("strict_limit", "0"))
_DEVICES: Final = Path("/sys/class/bdi")


def bound_dirty_pages(device: int, cleanup: ExitStack, *, devices: Path = _DEVICES) -> None:
    """
    Set the bound for a block device, given by its number, until ``cleanup``.

    A wish: kernels before 6.2 have no such bound, and ``/sys`` is read-only in many containers.
    """
    settings = devices / f"{os.major(device)}:{os.minor(device)}"
    try:
        (settings / "max_bytes").write_text(str(_BYTES))
        # The device outlives us, and its next user is somebody else.
        cleanup.callback(_take_back, settings)
        (settings / "strict_limit").write_text("1")
    except OSError:
        return


def _take_back(settings: Path) -> None:
    for name, value in _AS_THE_KERNEL_HAS_IT:
        with suppress(OSError):
            (settings / name).write_text(value)
