"""
Credentials from files of container tools, with their helpers: for the owner's machine and for the node.

Files are read when they are needed, so that a login in between counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.registries.auth_file import MAX_AUTH_FILE_BYTES, AuthFile
from enclave_cc.transport.registry.credential_helper import ask_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.registries.credentials import Credentials

    AskHelper = Callable[[str, str], Credentials | None]

_EMPTY: Final = AuthFile()


class CredentialFiles:
    """The first of several files that knows an image's registry; absent files are empty ones."""

    def __init__(self, paths: Iterable[Path], *, helper: AskHelper = ask_helper) -> None:
        self._paths = tuple(paths)
        self._helper = helper

    def __call__(self, reference: Reference) -> Credentials | None:
        """
        Return what to show the registry of an image.

        Raises ``InvalidInputError`` (file-unusable, registry-credentials-invalid) and ``UnavailableError``
        (credential-helper-failed).
        """
        for path in self._paths:
            found = self._find(_read(path), reference)
            if found is not None:
                return found
        return None

    def _find(self, file: AuthFile, reference: Reference) -> Credentials | None:
        known = file.find(reference)
        if known is not None:
            return known
        helper = file.helper_for(reference)
        return self._helper(helper, reference.registry) if helper else None


def _read(path: Path) -> AuthFile:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_AUTH_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return _EMPTY
    except OSError as error:
        raise InvalidInputError(
            "file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=f"{path}: {error.strerror}"
        ) from error
    # An empty file is what some tools leave behind after a logout.
    return AuthFile.parse(data) if data.strip() else _EMPTY
