"""Small changes of bytes, of the kinds that parsers trip over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MAX_INPUT_BYTES = 1 << 18
_WIDTHS = (1, 2, 4, 8)
_DIGITS = re.compile(rb"[0-9]+")
_TOKENS = (
    b"\0",
    b"/",
    b"..",
    b'"',
    b"[",
    b"{",
    b"'''",
    b"\n",
    b"\xff",
    b"\xed\xa0\x80",
    b"1e999",
    b"-0",
    b"null",
)


def mutate(source: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change something once, or several times; ``corpus`` is what pieces are taken from."""
    for _ in range(1 << source.randrange(4)):
        data = source.choice(_MUTATIONS)(source, data, corpus)
    return data[:MAX_INPUT_BYTES]


def _place(source: random.Random, data: bytes) -> int:
    # Headers are at the beginning more often than not.
    return source.randrange(min(len(data), source.choice((64, 2048, 1 << 30))) + 1)


def _flip(source, data, _corpus):
    if not data:
        return data
    changed = bytearray(data)
    changed[min(_place(source, data), len(data) - 1)] ^= 1 << source.randrange(8)
    return bytes(changed)


def _integer(source, data, _corpus):
    """Put a number there that is near a power of two, or none."""
    width = source.choice(_WIDTHS)
    value = (1 << source.randrange(8 * width + 1)) + source.choice((-1, 0, 1))
    value %= 1 << 8 * width
    start = _place(source, data)
    return data[:start] + value.to_bytes(width, source.choice(("little", "big"))) + data[start + width :]


def _digits(source, data, _corpus):
    """Replace a number that is written as text."""
    found = [match.span() for match in _DIGITS.finditer(data[:65_536])]
    if not found:
        return data
    start, end = source.choice(found)
    number = source.choice((b"0", b"-1", b"8", b"99999999999", b"1" * 400, b"%d" % (1 << 63), b"77777777777"))
    return (
        data[:start]
        + (number[: end - start].rjust(end - start, b"0") if source.random() < 0.5 else number)
        + data[end:]
    )


def _delete(source, data, _corpus):
    start = _place(source, data)
    return data[:start] + data[start + source.choice((1, 4, 12, 512)) :]


def _repeat(source, data, _corpus):
    start = _place(source, data)
    size = source.choice((1, 12, 64, 512))
    return data[:start] + data[start : start + size] * source.choice((2, 3, 50)) + data[start + size :]


def _insert(source, data, _corpus):
    start = _place(source, data)
    token = source.choice(_TOKENS) if source.random() < 0.5 else source.randbytes(source.choice((1, 8, 512)))
    return data[:start] + token + data[start:]


def _splice(source, data, corpus):
    """Go on with a piece of another input."""
    other = source.choice(corpus)
    start, size = _place(source, other), source.choice((8, 64, 512, 1 << 30))
    place = _place(source, data)
    return data[:place] + other[start : start + size] + data[place + (size if source.random() < 0.5 else 0) :]


def _cut(source, data, _corpus):
    return data[: _place(source, data)]


_MUTATIONS = (_flip, _flip, _integer, _integer, _digits, _delete, _repeat, _insert, _splice, _cut)
