"""
TOML from strangers, bounded before it is parsed.

The parser of the standard library recurses over nested arrays and takes quadratic time over long dotted
keys; both are cut off here, so that a pod annotation cannot occupy an enclave. Nothing is interpreted.
"""

from __future__ import annotations

import tomllib
from typing import Final

# A pod's annotations may hold 256 KiB together; compressed ones can be somewhat larger when opened.
MAX_TOML_BYTES: Final = 1 << 20
# A key of a line cannot have more parts than the line has dots; no sensible line comes near.
_MAX_DOTS_PER_LINE: Final = 64


class InvalidTomlError(ValueError):
    """The text is not TOML that we accept."""


def loads(data: bytes) -> dict[str, object]:
    """Parse UTF-8 TOML text; raise ``InvalidTomlError`` for anything doubtful."""
    if len(data) > MAX_TOML_BYTES:
        raise InvalidTomlError(f"longer than {MAX_TOML_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidTomlError("not UTF-8") from error
    _refuse_deep_keys(text)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InvalidTomlError("nested too deeply") from error
    except ValueError as error:
        raise InvalidTomlError(str(error)[:200]) from error


def _refuse_deep_keys(text: str) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > _MAX_DOTS_PER_LINE:
            raise InvalidTomlError(f"line {number}: has more than {_MAX_DOTS_PER_LINE} dots")
