"""
The outside of an OpenPGP message (RFC 9580, 4.2, 5.6 and 10.3): which packets it has, and nothing nested.

A message comes from strangers and may be compressed, so it is unpacked here, with a bound, before a library
sees it. What is left is one shape: a one-pass signature, the literal data, the signature.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE: Final = 2
ONE_PASS: Final = 4
COMPRESSED: Final = 8
LITERAL: Final = 11

# A payload is a few hundred bytes and a signature below one KiB.
MAX_MESSAGE_BYTES: Final = 128 << 10
_IS_PACKET, _IS_NEW = 0x80, 0x40
_INDETERMINATE: Final = 3
# How each compression begins and how zlib is told; bzip2 unpacks to anything and is refused.
_WINDOWS: Final = {1: -15, 2: 15}


def plain_message(data: bytes) -> bytes:
    """Return a message without its compression; raise ``ValueError`` for any other shape."""
    packets = list(_packets(data))
    if len(packets) == 1 and packets[0][0] == COMPRESSED:
        data = _decompressed(packets[0][1])
        packets = list(_packets(data))
    if [tag for tag, _ in packets] != [ONE_PASS, LITERAL, SIGNATURE]:
        raise ValueError("not a signed OpenPGP message")
    return data


def _decompressed(body: bytes) -> bytes:
    window = _WINDOWS.get(body[0]) if body else None
    if window is None:
        raise ValueError("a compression that is not accepted")
    inflating = zlib.decompressobj(window)
    try:
        data = inflating.decompress(body[1:], MAX_MESSAGE_BYTES)
    except zlib.error as error:
        raise ValueError("broken compression") from error
    if not inflating.eof or inflating.unused_data:
        raise ValueError("larger than any signature, or cut off")
    return data


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and body of each packet; lengths are checked, bodies are not looked at."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError("larger than any signature")
    offset = 0
    while offset < len(data):
        first = data[offset]
        if not first & _IS_PACKET:
            raise ValueError("not an OpenPGP packet")
        if first & _IS_NEW:
            body, offset = _new_body(data, offset + 1)
            yield first & 0x3F, body
        else:
            body, offset = _old_body(data, offset + 1, first & 3)
            yield first >> 2 & 0x0F, body


def _old_body(data: bytes, offset: int, kind: int) -> tuple[bytes, int]:
    if kind == _INDETERMINATE:
        return data[offset:], len(data)
    size = 1 << kind
    return _cut(data, offset + size, int.from_bytes(_cut(data, offset, size)[0], "big"))


def _new_body(data: bytes, offset: int) -> tuple[bytes, int]:
    """Join the parts of a body; only a last part has a length that is not a power of two."""
    body = bytearray()
    while True:
        length, offset, partial = _new_length(data, offset)
        part, offset = _cut(data, offset, length)
        body += part
        if not partial:
            return bytes(body), offset


def _new_length(data: bytes, offset: int) -> tuple[int, int, bool]:
    first = _cut(data, offset, 1)[0][0]
    if first < 192:  # noqa: PLR2004  # RFC 9580, 4.2.1: the borders of the four forms
        return first, offset + 1, False
    if first < 224:  # noqa: PLR2004  # as above
        return (first - 192 << 8) + _cut(data, offset + 1, 1)[0][0] + 192, offset + 2, False
    if first == 255:  # noqa: PLR2004  # as above
        return int.from_bytes(_cut(data, offset + 1, 4)[0], "big"), offset + 5, False
    return 1 << (first & 0x1F), offset + 1, True


def _cut(data: bytes, offset: int, size: int) -> tuple[bytes, int]:
    end = offset + size
    if end > len(data):
        raise ValueError("a packet that is cut off")
    return data[offset:end], end
