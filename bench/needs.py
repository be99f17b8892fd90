"""What a benchmark cannot do without: who lacks it is told its package, and gets EX_UNAVAILABLE (69)."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnavailableHereError(Exception):
    """This machine, or this user, cannot run the benchmark."""


def require_programs(packages: Mapping[str, str]) -> None:
    """Raise unless each program is there; its Debian package is the value."""
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if missing:
        raise UnavailableHereError(
            f"not installed: {' '.join(missing)} (apt-get install {' '.join(missing)})"
        )


def require_root() -> None:
    """Raise unless we are root."""
    if os.geteuid():
        raise UnavailableHereError("needs root, to mount and to drop caches")
