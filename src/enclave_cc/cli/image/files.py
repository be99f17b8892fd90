"""Files that image commands read and make."""

from __future__ import annotations

import os
from pathlib import Path

from enclave_cc.core.errors import InvalidInputError, Stage


def require_absent(path: Path) -> None:
    """Raise ``InvalidInputError`` (file-unusable) for a file that exists."""
    if os.path.lexists(path):
        raise _taken(path)


def create_private(path: Path) -> int:
    """Open a new file that only its owner may read; raise ``InvalidInputError`` (file-unusable)."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise _file_error(path, error) from error


def read(path: Path) -> bytes:
    """Read a file that a person named; raise ``InvalidInputError`` (file-unusable)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _file_error(path, error) from error


def _taken(path: Path) -> InvalidInputError:
    return _file_error(path, OSError(0, "is there already, and is never replaced"))


def _file_error(path: Path, error: OSError) -> InvalidInputError:
    detail = f"{path}: {error.strerror}"
    return InvalidInputError("file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail)
