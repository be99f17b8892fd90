"""The few system calls that Python 3.11 does not offer, without the 3 ms of ``import ctypes``."""

from __future__ import annotations

import os
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, dlopen, dlsym, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CLONE_NEWNS: Final = 0x00020000
MS_RDONLY: Final = 1
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2

_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36

_FLAGS: Final = {
    "ro": MS_RDONLY,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "remount": MS_REMOUNT,
    "noatime": 1024,
    "bind": MS_BIND,
    "rbind": MS_BIND | MS_REC,
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "relatime": 1 << 21,
    "rw": 0,
    "defaults": 0,
}


def mount(source: str, target: str, type_: str, options: list[str]) -> None:
    """Mount as containerd describes it; raise ``OSError``."""
    flags = 0
    data = []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    mount_flags(source, target, type_, flags, ",".join(data))
    if flags & MS_BIND and flags & MS_RDONLY:
        mount_flags("none", target, "none", flags | MS_REMOUNT, "")


def mount_flags(source: str, target: str, type_: str, flags: int, data: str) -> None:
    """Call mount(2); raise ``OSError``."""
    _call("mount", os.fsencode(source), os.fsencode(target), type_.encode(), flags, os.fsencode(data))


def detach(target: str) -> None:
    """Take the topmost mount of a directory away; raise ``OSError`` when there is none."""
    _call("umount2", os.fsencode(target), MNT_DETACH)


def unshare_mounts() -> None:
    """Enter a private mount namespace that still receives the host's new mounts."""
    _call("unshare", CLONE_NEWNS)
    mount_flags("none", "/", "none", MS_REC | MS_SLAVE, "")


def become_subreaper(name: str) -> None:
    """Adopt orphaned descendants and take a name that ``ps`` shows."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _call("prctl", _PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _call(name: str, *arguments: int | bytes) -> None:
    class Int(_SimpleCData):  # type: ignore[type-arg]  # not subscriptable at run time
        _type_ = "i"

    class Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = Int

    program = dlopen(None, 0)  # type: ignore[arg-type]  # None is the program itself
    function = Function(dlsym(program, name))
    if function(*arguments) == -1:
        number = get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
