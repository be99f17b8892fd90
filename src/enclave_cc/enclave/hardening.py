"""
What a process of ours does to itself before it holds a secret: no core dumps, no same-user debugging.

This keeps other users and ordinary mistakes out. It is no protection from root, and says so wherever
the simulated platform is shown.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

# From <linux/prctl.h>; the interface of the kernel, so the numbers do not change.
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden_process(*, may_gain_privileges: bool) -> None:
    """
    Forbid core files and same-user ptrace; raise ``OSError`` if the kernel refuses.

    ``may_gain_privileges`` stays true where runc is started, whose containers decide that for themselves.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    if not may_gain_privileges:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
