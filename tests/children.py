"""Forked children of a test: they run one function and never return into the test runner."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start(function: Callable[[], object]) -> int:
    """Run a function in a child; return its pid."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it was, the test shows it and fails by the status
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def status_of(function: Callable[[], object]) -> int:
    """Run a function in a child to its end; return the exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(start(function), 0)[1])
