"""Base64url without padding (RFC 7515 §2): exactly one text for each byte string, and no other accepted."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]*")


class JoseError(ValueError):
    """A JOSE object is malformed, uses what we do not accept, or does not verify."""


def encode(data: bytes | bytearray | memoryview) -> str:
    """Write bytes without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Read what ``encode`` writes; padding, other alphabets and stray low bits raise ``JoseError``."""
    if not _ALPHABET.fullmatch(text):
        raise JoseError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise JoseError("not base64url") from error
    if encode(data) != text:
        raise JoseError("not the canonical base64url text")
    return data
