"""Request ids as ``core.request_id`` makes them; that module costs the shim a regular expression engine."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH_CHARS: Final = 26


def fresh_request_id() -> str:
    """Draw 26 characters of Crockford's base 32."""
    number = int.from_bytes(os.urandom(17), "big")
    return "".join(_ALPHABET[number >> (5 * place) & 31] for place in range(_LENGTH_CHARS))
