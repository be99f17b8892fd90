"""The writable layer of one container: an overlay over its image, with the upper side that was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.enclave.rootfs.mounting.overlay import make_directory, mount_overlay
from enclave_cc.enclave.rootfs.mounting.writable.memory import mount_memory
from enclave_cc.enclave.rootfs.mounting.writable.scratch import mount_scratch
from enclave_cc.formats.rootfs_options import Writable

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.device.scratch_store import Poisonable
    from enclave_cc.formats.rootfs_options import RootfsOptions


def mount_writable(
    lower: Path,
    mountpoint: Path,
    *,
    work: Path,
    options: RootfsOptions,
    rootfs: Poisonable,
    cleanup: ExitStack,
) -> None:
    """
    Mount ``lower`` at ``mountpoint`` so that it can be written to; ``work`` is a private directory.

    Raise OSError, or ``UnavailableError`` if there can be no scratch. A block of the scratch that is
    not what was written poisons ``rootfs``.
    """
    upper_side = work / "scratch"
    make_directory(upper_side, cleanup)
    if options.writable is Writable.MEMORY:
        mount_memory(upper_side, options.writable_bytes, cleanup)
        mount_overlay(lower, mountpoint, upper_side, cleanup)
        return
    store = mount_scratch(upper_side, work, options.writable_bytes, rootfs, cleanup)
    mount_overlay(lower, mountpoint, upper_side, cleanup)
    # The first thing that happens at the end: nobody waits for pages that nobody will read.
    cleanup.callback(store.retire)
