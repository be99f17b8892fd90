"""
``WWW-Authenticate``: which ways of authorization a registry offers (RFC 9110 §11.6.1).

Registries send several challenges in one header or in several, quote parameters or do not, and
write schemes in any case. What cannot be read is not offered; nothing here raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CHALLENGE_CHARS: Final = 8192
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A parameter, else the scheme that begins the next challenge (a token68 after it is of no use here).
_PIECE: Final = re.compile(
    rf'(?P<name>{_WORD})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>[^\s,"]+))'
    rf"|(?P<scheme>{_WORD})"
)
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A scheme in lower case and its parameters, their names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """Return a parameter, "" where it is absent."""
        return self.parameters.get(name, "")


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read all challenges of all headers, in their order."""
    return tuple(challenge for header in headers for challenge in _parse(header[:MAX_CHALLENGE_CHARS]))


def choose(challenges: Iterable[Challenge]) -> dict[str, Challenge]:
    """Return the first challenge of each scheme."""
    chosen: dict[str, Challenge] = {}
    for challenge in challenges:
        chosen.setdefault(challenge.scheme, challenge)
    return chosen


def _parse(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    for piece in _PIECE.finditer(header):
        if piece["scheme"] is not None:
            found.append((piece["scheme"].lower(), {}))
        elif found:
            quoted = piece["quoted"]
            value = piece["plain"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
            found[-1][1].setdefault(piece["name"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]
