"""The broker's resources on the owner's own machine: files, and resources that files stand in for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

_KBS: Final = "kbs:"
# Keys, keyrings, policies and trust roots.
_MAX_BYTES: Final = 4 << 20


class KeyFiles:
    """Answers for ``kbs:///`` names from a table, and for everything else from the file of that path."""

    def __init__(self, stand_ins: Mapping[str, Path] | None = None) -> None:
        self._stand_ins = dict(stand_ins or {})

    def get(self, uri: str) -> bytes:
        """Read a file; raise ``InvalidInputError`` (file-unusable)."""
        path = self._stand_ins.get(uri)
        if path is None and uri.startswith(_KBS):
            raise _unusable(f"{uri}: no file stands in for it")
        try:
            with (path or Path(uri)).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise _unusable(f"{path or uri}: {error.strerror}") from error
        if len(data) > _MAX_BYTES:
            raise _unusable(f"{path or uri}: larger than any key")
        return data


def _unusable(detail: str) -> InvalidInputError:
    return InvalidInputError("file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail)
