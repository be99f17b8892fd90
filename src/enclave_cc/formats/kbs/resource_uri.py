"""
Names of what a key broker keeps: ``kbs:///<repository>/<type>/<tag>``.

The host part of the URI is never an address: a document that names a resource must not be
able to choose which broker answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage

_SEGMENT: Final = r"[A-Za-z0-9_-]+[A-Za-z0-9_.-]*"
_PATH: Final = re.compile(rf"{_SEGMENT}/{_SEGMENT}/{_SEGMENT}", re.ASCII)
# The longest path that a request line, a log line and a database key all carry without thought.
MAX_PATH_CHARS: Final = 512
_SCHEMES: Final = ("kbs:///", "kbs+resource:///")


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """Three segments; none is empty, none begins with a dot."""

    repository: str
    type: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``kbs:///a/b/c``; raise ``InvalidInputError`` for other plugins, hosts, queries and shapes."""
        for scheme in _SCHEMES:
            if text.startswith(scheme):
                return cls.parse_path(text.removeprefix(scheme))
        raise _invalid(text)

    @classmethod
    def parse_path(cls, path: str) -> Self:
        """Read ``a/b/c``; raise ``InvalidInputError`` for anything else."""
        if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path):
            raise _invalid(path)
        return cls(*path.split("/"))

    @property
    def path(self) -> str:
        """Return ``repository/type/tag``."""
        return f"{self.repository}/{self.type}/{self.tag}"

    def __str__(self) -> str:
        return f"kbs:///{self.path}"


def _invalid(text: str) -> InvalidInputError:
    return InvalidInputError(
        "resource-uri-invalid", "a resource name is malformed", stage=Stage.REQUEST, detail=repr(text[:200])
    )
