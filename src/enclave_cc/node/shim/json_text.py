"""JSON on the interpreter's own C scanner and encoder: ``import json`` would cost 5 ms of every start."""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InvalidJson(ValueError):  # noqa: N818 - reads as a state
    """The text is not one JSON value."""


class _Decoding:
    """The options that the scanner reads from its context."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> object:
        """Refuse NaN and the infinities."""
        raise InvalidJson(name)


def loads(text: bytes | str) -> Any:
    """Read one JSON value; raise ``InvalidJson`` for anything else."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        stripped = decoded.strip(" \t\r\n")
        value, end = make_scanner(_Decoding())(stripped, 0)  # type: ignore[arg-type]  # it only reads the attributes
    except InvalidJson:
        raise
    except (
        ValueError,
        StopIteration,
        RecursionError,
        SystemError,
    ) as error:  # SystemError: json.decoder is not loaded
        raise InvalidJson("not JSON") from error
    if end != len(stripped):
        raise InvalidJson("something follows the JSON value")
    return value


def dumps(value: object) -> bytes:
    """Write compact JSON of texts, numbers, booleans, null, arrays and objects with text keys."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode("ascii")


def _write(value: object, parts: list[str]) -> None:
    if isinstance(value, str):
        parts.append(encode_basestring_ascii(value))
    elif value is None or value is True or value is False:
        parts.append("null" if value is None else str(value).lower())
    elif isinstance(value, int | float):
        parts.append(repr(value))
    elif isinstance(value, dict):
        _write_all(
            "{", [(encode_basestring_ascii(key) + ":", member) for key, member in value.items()], "}", parts
        )
    elif isinstance(value, list | tuple):
        _write_all("[", [("", item) for item in value], "]", parts)
    else:
        raise TypeError(f"{type(value).__name__} is not JSON")


def _write_all(opening: str, items: list[tuple[str, object]], closing: str, parts: list[str]) -> None:
    parts.append(opening)
    for number, (prefix, item) in enumerate(items):
        parts.append("," + prefix if number else prefix)
        _write(item, parts)
    parts.append(closing)
