"""
The edge where foreign image documents become values.

Everything a registry sends is parsed below one of these blocks, so that a document that does not
parse has one error code, whatever part of it was wrong. Nothing here decides about trust.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import contextmanager
from typing import TYPE_CHECKING

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.errors import Stage


@contextmanager
def foreign(code: str, summary: str, *, stage: Stage) -> Iterator[None]:
    """Turn every complaint of the parsers inside into one ``InvalidInputError``."""
    try:
        yield
    except InvalidInputError as error:
        detail = error.detail or error.summary
        raise InvalidInputError(code, summary, stage=stage, detail=detail) from error
    except ValueError as error:
        raise InvalidInputError(code, summary, stage=stage, detail=str(error)) from error


def read_object(data: bytes, where: str, *, max_bytes: int) -> Fields:
    """Parse one JSON object; raise ``ValueError`` otherwise."""
    return Fields(strict_json.loads(data, max_bytes=max_bytes), where)


def decode_base64(text: str, where: str) -> bytes:
    """Decode standard base64 and nothing that only looks like it; raise ``ValueError`` otherwise."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where}: is not base64") from error
