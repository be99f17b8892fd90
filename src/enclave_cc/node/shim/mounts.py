"""The mounts below a directory, as this mount namespace sees them, and their removal."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

from enclave_cc.node.shim.linux import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MOUNTINFO: Final = "/proc/self/mountinfo"
_MOUNT_POINT_COLUMN: Final = 4
# proc(5), "mangled": what would end a field or a line is written in octal.
_ESCAPES: Final = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def mounts_below(directory: str, table: str = _MOUNTINFO) -> list[str]:
    """Find the mount points at or below ``directory``, the deepest first (proc(5), mountinfo)."""
    with open(table, "rb") as file:
        points = [_unescaped(line.split(b" ")[_MOUNT_POINT_COLUMN]) for line in file]
    found = [point for point in points if point == directory or point.startswith(f"{directory}/")]
    return sorted(found, key=len, reverse=True)


def detach_below(directory: str) -> None:
    """Take away every mount at or below ``directory``, as far as possible."""
    for point in mounts_below(directory):
        try:
            detach(point)
        except OSError:
            continue


def _unescaped(field: bytes) -> str:
    for escape, character in _ESCAPES:
        field = field.replace(escape, character)
    return field.decode("utf-8", "surrogateescape")
