"""The writable layer of one container: an overlay over its image, with the upper side that was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from enclave_cc.enclave.rootfs.mounting.overlay import make_directory, mount_overlay
from enclave_cc.enclave.rootfs.mounting.writable.memory import mount_memory
from enclave_cc.enclave.rootfs.mounting.writable.scratch import mount_scratch, start_scratch
from enclave_cc.formats.rootfs_options import Writable

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from enclave_cc.enclave.rootfs.mounting.writable.scratch_process import Poisonable, ScratchProcess
    from enclave_cc.formats.rootfs_options import RootfsOptions


class WritableLayer:
    """Prepared before there are keys and threads, mounted over the image afterwards."""

    def __init__(self, work: Path, size_bytes: int, scratch: ScratchProcess | None) -> None:
        self._work = work
        self._size_bytes = size_bytes
        self._scratch = scratch

    @classmethod
    def prepare(cls, work: Path, options: RootfsOptions, cleanup: ExitStack) -> Self:
        """Start what must be started first; ``work`` is a private directory; raise ``UnavailableError``."""
        scratch = None
        if options.writable is Writable.SCRATCH:
            scratch = start_scratch(work, options.writable_bytes, cleanup)
        return cls(work, options.writable_bytes, scratch)

    def mount(self, lower: Path, mountpoint: Path, rootfs: Poisonable, cleanup: ExitStack) -> None:
        """
        Mount ``lower`` at ``mountpoint`` so that it can be written to.

        Raise OSError, or ``UnavailableError`` if there can be no scratch. A block of the scratch that is
        not what was written poisons ``rootfs``.
        """
        upper_side = self._work / "scratch"
        make_directory(upper_side, cleanup)
        if self._scratch is None:
            mount_memory(upper_side, self._size_bytes, cleanup)
            mount_overlay(lower, mountpoint, upper_side, cleanup)
            return
        mount_scratch(self._scratch, upper_side, self._work / "scratch-image", rootfs, cleanup)
        mount_overlay(lower, mountpoint, upper_side, cleanup)
        # The first thing that happens at the end: nobody waits for pages that nobody will read.
        cleanup.callback(self._scratch.retire)
