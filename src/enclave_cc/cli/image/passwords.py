"""Where a key's password comes from: a file, the environment variable that cosign reads, or the person."""

from __future__ import annotations

import getpass
import os
import sys
from typing import TYPE_CHECKING, Final

from enclave_cc.cli.image.files import read
from enclave_cc.cli.output import printable
from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VARIABLE: Final = "COSIGN_PASSWORD"


def password_from(file: Path | None) -> Callable[[], bytes]:
    """Return what asks for the password when one is needed, and only then; never an argument of a process."""

    def ask() -> bytes:
        if file is None and VARIABLE in os.environ:
            return os.environ[VARIABLE].encode("utf-8", "surrogateescape")
        return _from_file_or_person(file, "the signing key")

    return ask


def key_password_from(file: Path | None) -> Callable[[Path], bytes]:
    """Return what asks for the password of a private key that opens layers, by the key's file."""
    return lambda key: _from_file_or_person(file, key.name)


def _from_file_or_person(file: Path | None, key: str) -> bytes:
    if file is not None:
        return read(file).rstrip(b"\r\n")
    if sys.stdin.isatty():
        return getpass.getpass(f"password of {printable(key)}: ").encode("utf-8")
    raise InvalidInputError(
        "password-missing",
        "the key is encrypted, and nobody can be asked for its password",
        stage=Stage.CONFIG,
    )
