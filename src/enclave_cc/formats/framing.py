"""Length-prefixed concatenation: the one way to join byte strings before they are hashed, signed or sealed.

Plain concatenation lets two different lists have the same bytes. Here every part carries its length, so
equal bytes mean equal lists. This module must not interpret the parts.
"""

from __future__ import annotations

_LENGTH_BYTES = 4
# Nothing in the project joins more parts than this; a longer list is an attack on memory.
_MAX_PARTS = 64


class FramingError(ValueError):
    """The bytes are no length-prefixed list, or not one of the expected length."""


def lp(*parts: bytes) -> bytes:
    """Join `parts`, each after its length as four big-endian bytes."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def unlp(data: bytes, *, count: int | None = None, max_parts: int = _MAX_PARTS) -> tuple[bytes, ...]:
    """Split what `lp` joined; exactly `count` parts if given. FramingError on anything else."""
    limit = max_parts if count is None else count
    parts: list[bytes] = []
    offset = 0
    while offset < len(data):
        if len(parts) == limit:
            raise FramingError("too many parts")
        start = offset + _LENGTH_BYTES
        length = int.from_bytes(data[offset:start], "big")
        offset = start + length
        if offset > len(data):
            raise FramingError("a part is longer than the data")
        parts.append(bytes(data[start:offset]))
    if count is not None and len(parts) != count:
        raise FramingError(f"{len(parts)} parts instead of {count}")
    return tuple(parts)
