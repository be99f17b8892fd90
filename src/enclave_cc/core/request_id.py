"""Names for one request as it passes from the kubelet through shim and agent to the broker's log."""

from __future__ import annotations

import os
import re
from typing import Final, NewType

from enclave_cc.core.errors import InvalidInputError, Stage

RequestId = NewType("RequestId", str)

# Crockford's base 32: no letters that a person reading aloud confuses.
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH_CHARS: Final = 26
_PATTERN: Final = re.compile(rf"[{ALPHABET}]{{{LENGTH_CHARS}}}")


def fresh_request_id() -> RequestId:
    """Draw 130 random bits and write them as 26 characters."""
    number = int.from_bytes(os.urandom(17), "big")
    return RequestId("".join(ALPHABET[number >> (5 * place) & 31] for place in range(LENGTH_CHARS)))


def parse_request_id(text: str) -> RequestId:
    """Accept exactly what ``fresh_request_id`` makes; raise ``InvalidInputError`` otherwise."""
    if not _PATTERN.fullmatch(text):
        raise InvalidInputError("request-id-invalid", "the request id is malformed", stage=Stage.REQUEST)
    return RequestId(text)
