"""Where a key's password comes from: a file, the environment variable that cosign reads, or the person."""

from __future__ import annotations

import getpass
import os
import sys
from typing import TYPE_CHECKING, Final

from enclave_cc.cli.image.files import read
from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VARIABLE: Final = "COSIGN_PASSWORD"


def password_from(file: Path | None) -> Callable[[], bytes]:
    """Return what asks for the password when one is needed, and only then; never an argument of a process."""

    def ask() -> bytes:
        if file is not None:
            return read(file).rstrip(b"\r\n")
        if VARIABLE in os.environ:
            return os.environ[VARIABLE].encode("utf-8", "surrogateescape")
        if sys.stdin.isatty():
            return getpass.getpass("password of the signing key: ").encode("utf-8")
        raise InvalidInputError(
            "password-missing",
            "the key is encrypted, and nobody can be asked for its password",
            stage=Stage.CONFIG,
        )

    return ask
