"""An overlay over the tree: what is written goes to an upper side, and is gone with it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag, mount, unmount

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path


def mount_overlay(lower: Path, mountpoint: Path, upper_side: Path, cleanup: ExitStack) -> None:
    """Mount ``lower`` at ``mountpoint``; what is written goes to the empty ``upper_side``; raise OSError."""
    upper, overlay_work = upper_side / "upper", upper_side / "work"
    _make_upper(lower, upper)
    overlay_work.mkdir()
    layers = f"lowerdir={_escape(lower)},upperdir={_escape(upper)},workdir={_escape(overlay_work)}"
    mount("sealed-root", mountpoint, "overlay", MountFlag.NONE, layers)
    cleanup.callback(unmount, mountpoint)


def make_directory(path: Path, cleanup: ExitStack) -> None:
    """Make a private directory that is removed again, unless something is still mounted there."""
    path.mkdir(mode=0o700)

    def remove() -> None:
        with suppress(OSError):
            path.rmdir()

    cleanup.callback(remove)


def _make_upper(lower: Path, upper: Path) -> None:
    """Make the upper directory; the root of an overlay has the attributes of its upper side."""
    status = lower.stat()
    upper.mkdir()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)
    for name in os.listxattr(lower):
        # The scratch file system may not know this kind.
        with suppress(OSError):
            os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _escape(path: Path) -> str:
    r"""Protect what separates the options of overlay: ``\``, ``,`` and ``:``."""
    return os.fspath(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
