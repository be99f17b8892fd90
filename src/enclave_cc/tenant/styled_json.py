"""
JSON documents whose members are changed one by one while the rest stays byte for byte as it was.

An image's documents are named by the digest of their bytes, and every builder spaces and escapes them in
its own way. The way is found by trying: if writing what was read gives the same bytes, so it will for
what is changed. Undoing a change then gives the original's digest back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import FieldError
from enclave_cc.core.strict_json import loads
from enclave_cc.formats.oci.edge import foreign

_INDENTS: Final = (None, 2, 3, 4, "\t", 1)
# Go writes these as escapes unless it is told otherwise; most builders are written in Go.
_GO_ESCAPES: Final = {
    char: f"\\u{ord(char):04x}" for char in ("<", ">", "&", "\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}")
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a document was written."""

    indent: int | str | None = None
    go_escapes: bool = False
    spaced: bool = False
    end: str = ""

    def write(self, value: object) -> bytes:
        """Write a value in this style, members in their order."""
        comma = "," if self.indent is not None or not self.spaced else ", "
        colon = ":" if self.indent is None and not self.spaced else ": "
        text = json.dumps(value, indent=self.indent, separators=(comma, colon), ensure_ascii=False)
        if self.go_escapes:
            for char, escape in _GO_ESCAPES.items():
                text = text.replace(char, escape)
        return (text + self.end).encode()


_STYLES: Final = tuple(
    Style(indent, go_escapes, spaced, end)
    for end in ("", "\n")
    for go_escapes in (False, True)
    for indent, spaced in [*((indent, False) for indent in _INDENTS), (None, True)]
)


@dataclass(frozen=True, slots=True)
class StyledJson:
    """One object, to be changed in place, and its style."""

    members: dict[str, object]
    style: Style

    @classmethod
    def parse(cls, data: bytes, *, max_bytes: int, code: str, summary: str) -> Self:
        """Read an object; raise ``InvalidInputError`` with the given code otherwise."""
        with foreign(code, summary, stage=Stage.CONFIG):
            members = _object(loads(data, max_bytes=max_bytes))
        style = next((style for style in _STYLES if style.write(members) == data), Style())
        return cls(members, style)

    def to_bytes(self) -> bytes:
        """Write the object as it is now."""
        return self.style.write(self.members)


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise FieldError("the document is not an object")
