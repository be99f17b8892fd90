"""
Take down what a server left that could not do so itself, because it was killed or does not answer.

A FUSE connection is aborted first, through the kernel and not through its file system: whoever waits
for an answer gets an error, and unmounting waits for nobody.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.mounting.system_calls import abort_fuse, unmount

if TYPE_CHECKING:
    from collections.abc import Callable

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
# Spaces, tabs, line feeds and backslashes are written as three octal digits.
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    point: Path
    minor: int
    kind: str


def take_down(work: Path, mountpoint: Path | None) -> None:
    """Unmount what is below ``work`` and at ``mountpoint``, the latest first, and remove ``work``."""

    def is_ours(point: Path) -> bool:
        return point == mountpoint or point.is_relative_to(work)

    for mount in reversed(_mounts(is_ours)):
        with suppress(OSError):
            if mount.kind.startswith("fuse."):
                abort_fuse(mount.minor, work.with_name(f"{work.name}.control"))
        with suppress(OSError):
            unmount(mount.point)
    # Never walk into what is mounted.
    if not _mounts(is_ours):
        shutil.rmtree(work, ignore_errors=True)


def _mounts(wanted: Callable[[Path], bool]) -> list[_Mount]:
    mounts = map(_parse, _MOUNTINFO.read_bytes().splitlines())
    return [mount for mount in mounts if wanted(mount.point)]


def _parse(line: bytes) -> _Mount:
    """Read one line as proc(5) describes it: number, parent, device, root, point, options … - kind …."""
    fields, _, rest = line.partition(b" - ")
    _number, _parent, device, _root, point = fields.split(b" ")[:5]
    unescaped = _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), point)
    _major, _, minor = device.partition(b":")
    return _Mount(
        Path(unescaped.decode("utf-8", "surrogateescape")), int(minor), rest.split(b" ")[0].decode()
    )
