"""JSON from strangers: bounded in size and depth, no duplicates, NaN or half characters; canonical output."""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

DEFAULT_MAX_DEPTH: Final = 32
# Python refuses longer integer literals itself only from 4300 digits on; nothing here needs more than a u64.
_MAX_INTEGER_CHARS: Final = 20
# UTF-8 cannot hold half of a surrogate pair, so only an escape brings one; almost no text has such escapes.
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
# A whole string, or one bracket; what is inside of strings does not nest.
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class InvalidJsonError(ValueError):
    """The text is not JSON that we accept."""


def loads(data: bytes | str, *, max_bytes: int, max_depth: int = DEFAULT_MAX_DEPTH) -> object:
    """
    Parse UTF-8 JSON text; raise ``InvalidJsonError`` for anything doubtful.

    ``max_bytes`` bounds the text before it is decoded, ``max_depth`` the nesting before it is
    parsed, so that neither memory nor the stack depends on the sender.
    """
    if len(data) > max_bytes:
        raise InvalidJsonError(f"longer than {max_bytes} bytes")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJsonError("not UTF-8") from error
    if depth(text) > max_depth:
        raise InvalidJsonError(f"nested deeper than {max_depth}")
    try:
        value = json.loads(
            text, object_pairs_hook=_members, parse_constant=_refuse_constant, parse_int=_bounded_integer
        )
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except InvalidJsonError:
        raise
    except UnicodeEncodeError as error:
        raise InvalidJsonError("half of a surrogate pair") from error
    except ValueError as error:
        raise InvalidJsonError("not JSON") from error
    return value


def canonical(value: object) -> bytes:
    """
    Write canonical JSON (RFC 8785) for texts, integers, booleans, null, arrays and objects.

    Floats are refused: their canonical form needs more than this project has use for.
    """
    _refuse_floats(value)
    try:
        text = json.dumps(_sorted(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (UnicodeEncodeError, TypeError) as error:
        raise InvalidJsonError("has no canonical form") from error


def depth(data: bytes | str) -> int:
    """Count the deepest nesting without parsing: brackets outside of strings, whatever else it is."""
    # No byte of a longer UTF-8 sequence looks like a quote, a backslash or a bracket.
    text = data if isinstance(data, str) else data.decode("latin-1")
    level = deepest = 0
    for mark in _STRUCTURE.findall(text):
        if mark in "[{":
            level += 1
            deepest = max(deepest, level)
        elif mark in "]}":
            level -= 1
    return deepest


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJsonError("a member occurs twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJsonError(f"{name} is not JSON")


def _bounded_integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_CHARS:
        raise InvalidJsonError("an integer is too long")
    return int(text)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise InvalidJsonError("floats have no canonical form here")
    if isinstance(value, dict):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)


def _sorted(value: object) -> object:
    """Sort members by UTF-16 code units, as RFC 8785 asks."""
    if isinstance(value, dict):
        return {
            key: _sorted(value[key]) for key in sorted(value, key=lambda key: str(key).encode("utf-16-be"))
        }
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
