"""Reading files in pieces, and in any order."""

from __future__ import annotations

import os
import secrets
from typing import IO, TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 1 << 20
_TOKEN_BYTES: Final = 8


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end."""
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def read_range(file: int, offset: int, size: int) -> Iterator[bytes]:
    """Read a part of a file, without its position: several threads may; a short file ends early."""
    end = offset + size
    while offset < end:
        chunk = os.pread(file, min(CHUNK_BYTES, end - offset), offset)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk


def beside(path: Path) -> Path:
    """Name something that will become ``path`` when it is complete; it is on the same file system."""
    return path.parent / f".{path.name}.partial-{secrets.token_hex(_TOKEN_BYTES)}"


def unusable(path: Path, error: OSError) -> InvalidInputError:
    """Say that a file or directory that a person named cannot be used."""
    detail = f"{path}: {error.strerror}"
    return InvalidInputError("file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail)
