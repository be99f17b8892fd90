"""A strict reader and a writer for the few DER types that `cryptography` does not read for us.

They are inside the SGX extension of a PCK certificate and of PKCS#7 envelopes. X.690 clause 10: definite,
minimal lengths; nothing after the end. This is no general ASN.1 library and must not become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
IA5_STRING: Final = 0x16
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONTEXT_0: Final = 0x80
CONSTRUCTED_0: Final = 0xA0
CONSTRUCTED_1: Final = 0xA1

_LONG_FORM: Final = 0x80
_CONTINUES: Final = 0x80
# Two length bytes reach 64 KiB; the largest real extension has 556 bytes, an envelope one KiB per recipient.
_MAX_LENGTH_BYTES: Final = 2
_MAX_INTEGER_BYTES: Final = 5
_MAX_OID_BYTES: Final = 32
_FALSE, _TRUE = b"\x00", b"\xff"
_FIRST_ARC_FACTOR: Final = 40
_SECOND_ROOT: Final = 2


class InvalidDerError(ValueError):
    """The bytes are not DER, or not of the types that are read here."""


def read(data: bytes) -> tuple[int, bytes]:
    """Read one value that fills `data`: its tag and its content."""
    tag, content, end = _read_at(data, 0)
    if end != len(data):
        raise InvalidDerError("DER: bytes after the end")
    return tag, content


def items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value in a constructed value's content."""
    offset = 0
    while offset < len(content):
        tag, value, offset = _read_at(content, offset)
        yield tag, value


def _read_at(data: bytes, offset: int) -> tuple[int, bytes, int]:
    if offset + 2 > len(data):
        raise InvalidDerError("DER: truncated")
    tag, length = data[offset], data[offset + 1]
    offset += 2
    if length & _LONG_FORM:
        size = length & ~_LONG_FORM
        if not 1 <= size <= _MAX_LENGTH_BYTES or offset + size > len(data):
            raise InvalidDerError("DER: length form")
        encoded = data[offset : offset + size]
        length = int.from_bytes(encoded, "big")
        offset += size
        if length < _LONG_FORM or encoded[0] == 0:
            raise InvalidDerError("DER: length is not minimal")
    end = offset + length
    if end > len(data):
        raise InvalidDerError("DER: a value goes past the end")
    return tag, data[offset:end], end


def unsigned(content: bytes) -> int:
    """Value of a non-negative INTEGER or ENUMERATED in minimal form."""
    if not 1 <= len(content) <= _MAX_INTEGER_BYTES or content[0] & 0x80:
        raise InvalidDerError("DER: integer out of range")
    if len(content) > 1 and content[0] == 0 and not content[1] & 0x80:
        raise InvalidDerError("DER: integer is not minimal")
    return int.from_bytes(content, "big")


def boolean(content: bytes) -> bool:
    """Value of a BOOLEAN (clause 11.1: only 00 and FF)."""
    if content not in (_FALSE, _TRUE):
        raise InvalidDerError("DER: boolean")
    return content == _TRUE


def dotted(content: bytes) -> str:
    """Value of an OBJECT IDENTIFIER in dotted form."""
    if not 1 <= len(content) <= _MAX_OID_BYTES or content[-1] & _CONTINUES:
        raise InvalidDerError("DER: object identifier")
    arcs: list[int] = []
    value = 0
    fresh = True
    for byte in content:
        if fresh and byte == _CONTINUES:
            raise InvalidDerError("DER: object identifier is not minimal")
        value = value << 7 | byte & ~_CONTINUES
        fresh = not byte & _CONTINUES
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // _FIRST_ARC_FACTOR, _SECOND_ROOT)
    return ".".join(map(str, (first, arcs[0] - first * _FIRST_ARC_FACTOR, *arcs[1:])))


def write(tag: int, content: bytes) -> bytes:
    """Encode one value: tag, minimal length, content."""
    size = len(content)
    if size < _LONG_FORM:
        return bytes((tag, size)) + content
    encoded = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(encoded))) + encoded + content


def write_sequence(*values: bytes) -> bytes:
    """Encode a SEQUENCE of encoded values."""
    return write(SEQUENCE, b"".join(values))


def write_unsigned(value: int, tag: int = INTEGER) -> bytes:
    """Encode a non-negative INTEGER (or ENUMERATED) in minimal form."""
    return write(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def write_boolean(value: bool) -> bytes:  # noqa: FBT001 - the value is what is encoded
    """Encode a BOOLEAN."""
    return write(BOOLEAN, _TRUE if value else _FALSE)


def write_oid(text: str) -> bytes:
    """Encode an OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = map(int, text.split("."))
    return write(OBJECT_IDENTIFIER, b"".join(map(_base128, (first * _FIRST_ARC_FACTOR + second, *rest))))


def _base128(value: int) -> bytes:
    septets = [value & 0x7F]
    while value := value >> 7:
        septets.append(_CONTINUES | value & 0x7F)
    return bytes(reversed(septets))
