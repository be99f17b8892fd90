"""What lies in an image and will not do there what it does elsewhere."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.tenant.check.problem import note, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.tenant.check.merged import MergedTree
    from enclave_cc.tenant.check.problem import Problem

_CAPABILITIES: Final = b"security.capability"
_SHOWN: Final = 5


def check_contents(tree: MergedTree) -> Iterator[Problem]:
    """Walk the tree once."""
    raised: list[str] = []
    capable: list[str] = []
    devices: list[str] = []
    files = 0
    for path, node in tree.walk():
        files += 1
        if stat.S_ISREG(node.mode) and node.mode & (stat.S_ISUID | stat.S_ISGID):
            raised.append(path)
        if _CAPABILITIES in node.xattrs:
            capable.append(path)
        if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            devices.append(path)
    yield note("contents.size", f"{files} files, {tree.size} bytes unpacked")
    if raised:
        yield warning(
            "contents.setuid",
            f"setuid or setgid: {_list(raised)}",
            "they gain nothing where the pod sets no_new_privs; remove them if nobody needs them",
        )
    if capable:
        yield warning(
            "contents.capabilities",
            f"file capabilities: {_list(capable)}",
            "they need the same capability in the container's bounding set",
        )
    if devices:
        yield warning(
            "contents.devices",
            f"device nodes: {_list(devices)}",
            "nodes of an image cannot be opened in a container: let the pod request devices",
        )


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(sorted(paths)[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN} more"
