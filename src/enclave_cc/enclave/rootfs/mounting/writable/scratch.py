"""
Keep what the workload writes on the host's disk, encrypted: a process, a loop device, and an ext4.

When memory is short, the kernel makes room by writing pages of that ext4 back, through that process. So it
must not wait for room itself: its memory stays where it is, its threads say what they are, and neither
the loop device nor the file below keeps pages that wait.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag, attach_loop, mount, unmount
from enclave_cc.enclave.rootfs.mounting.writable.dirty_pages import bound_dirty_pages
from enclave_cc.enclave.rootfs.mounting.writable.ext4 import MOUNT_OPTIONS, make_ext4, scratch_unavailable
from enclave_cc.enclave.rootfs.mounting.writable.scratch_process import ScratchProcess

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.mounting.writable.scratch_process import Poisonable

# Less than that is not worth a file system.
_MIN_BYTES: Final = 1 << 20


def start_scratch(work: Path, size_bytes: int, cleanup: ExitStack) -> ScratchProcess:
    """
    Start the process, before there are threads and keys; raise ``UnavailableError`` (scratch-unavailable).

    The scratch is as large as asked for, or as the free room on the disk of ``work``, a private directory.
    """
    try:
        size = min(size_bytes, shutil.disk_usage(work).free)
        if size < _MIN_BYTES:
            raise scratch_unavailable(f"{size} bytes are no room for a file system")
        process = ScratchProcess.start(work, size)
    except OSError as error:
        raise scratch_unavailable(str(error)) from error
    cleanup.callback(process.close)
    return process


def mount_scratch(
    process: ScratchProcess, target: Path, image: Path, rootfs: Poisonable, cleanup: ExitStack
) -> None:
    """
    Make an empty file system on the scratch and mount it onto a directory; at ``image`` nothing exists.

    Raise ``UnavailableError`` (``scratch-unavailable``).
    """
    try:
        image.touch(mode=0o600)
        cleanup.callback(image.unlink)
        process.mount(image, rootfs)
        cleanup.callback(process.unmount, image)
        device, fd = attach_loop(image, writable=True)
        try:
            make_ext4(device)
            bound_dirty_pages(os.fstat(fd).st_rdev, cleanup)
            mount(device, target, "ext4", MountFlag.NONE, MOUNT_OPTIONS)
        finally:
            os.close(fd)
    except OSError as error:
        raise scratch_unavailable(str(error)) from error
    cleanup.callback(unmount, target)
