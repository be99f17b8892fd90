"""
Who lives holds the lock of its pod's directory: the kernel lets go of it however a shim dies, and at reboot.

So whoever finds the lock free may remove the pod, without asking whether some pid is still the same process.
"""

from __future__ import annotations

import os

from enclave_cc.node.shim.directories import make_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def hold(path: str) -> int:
    """Make a directory and lock it until the returned descriptor is closed; wait for a broom that has it."""
    from fcntl import LOCK_EX, flock  # noqa: PLC0415 - only sandboxes need it

    while True:
        make_private(path)
        try:
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            # A broom was faster; it is gone as a whole and can be made again.
            continue
        flock(descriptor, LOCK_EX)
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def hold_dead(path: str) -> int | None:
    """Lock a directory that nobody holds; None if somebody does, or if it is gone or no directory."""
    from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415 - as above

    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if _is_still(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _is_still(path: str, descriptor: int) -> bool:
    """Tell whether the locked directory is the one that has the name."""
    try:
        named = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - pathlib takes longer to import
    except OSError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))
