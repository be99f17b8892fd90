"""
What a process of ours does to itself before it holds a secret: no core dumps, no same-user debugging.

This keeps other users and ordinary mistakes out. It is no protection from root, and says so wherever
the simulated platform is shown.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

# From <linux/prctl.h>; the interface of the kernel, so the numbers do not change.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
# Behind everything else on the machine, as containerd's shims are; -1000 would mean never.
_LAST_TO_BE_KILLED: Final = "-998"


def harden_process(*, may_gain_privileges: bool) -> None:
    """
    Forbid core files and same-user ptrace; raise ``OSError`` if the kernel refuses.

    ``may_gain_privileges`` stays true where runc is started, whose containers decide that for themselves.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    if not may_gain_privileges:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def end_with_parent(parent: int) -> None:
    """Be killed when ``parent``, which forked us, ends; raise ``ProcessLookupError`` if it has already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError


def ask_to_be_killed_last() -> None:
    """Ask the kernel to end others first when memory runs out; one that does not let us has its reasons."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_LAST_TO_BE_KILLED, encoding="ascii")


def name_process(name: str) -> None:
    """Show a name of at most 15 bytes in the lists of processes."""
    buffer = ctypes.create_string_buffer(name.encode())
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
