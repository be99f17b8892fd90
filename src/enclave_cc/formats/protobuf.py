"""
Protocol buffers, table driven: messages are dictionaries, a schema says how they are written.

Only what the protocols here use. The shim loads this module in a few hundred microseconds, so
it imports nothing at all; whoever receives a message parses it into a value at the edge.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

STRING: Final = "string"
BYTES: Final = "bytes"
UINT: Final = "uint"
INT: Final = "int"
BOOL: Final = "bool"

# Deeper nesting than any message here has; a hostile sender must not choose our stack depth.
MAX_DEPTH: Final = 16
_MAX_VARINT_BYTES: Final = 10
_CONTINUES: Final = 0x80  # the top bit of a varint's byte: more bytes follow
_WIRE_VARINT: Final = 0
_WIRE_LENGTH: Final = 2
_WIRE_FIXED: Final = {1: 8, 5: 4}  # bytes by wire type; no message here uses them
_DEFAULTS: Final = {STRING: "", BYTES: b"", UINT: 0, INT: 0, BOOL: False}


class ProtobufError(ValueError):
    """The bytes are no message of this schema."""


class Schema:
    """A message: field number to (name, kind), where a kind is a scalar, a Schema, or wraps one."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[int, tuple[str, Any]]) -> None:
        self.name = name
        self.fields = fields


class Repeated:
    """A field that may occur many times."""

    __slots__ = ("kind",)

    def __init__(self, kind: Any) -> None:
        self.kind = kind


class Mapping:
    """A ``map<string, string>`` field, or one with another kind of value."""

    __slots__ = ("entry",)

    def __init__(self, value: Any = STRING) -> None:
        self.entry = Schema("entry", {1: ("key", STRING), 2: ("value", value)})


def repeated(kind: Any) -> Repeated:
    """Declare a repeated field."""
    return Repeated(kind)


def mapping(value: Any = STRING) -> Mapping:
    """Declare a map from texts."""
    return Mapping(value)


def encode(schema: Schema, values: dict[str, Any]) -> bytes:
    """Write a message; absent members and default scalars are left out, as proto3 does."""
    out = bytearray()
    for number, (name, kind) in schema.fields.items():
        value = values.get(name)
        if value is None:
            continue
        if isinstance(kind, Repeated):
            for item in value:
                _write(out, number, kind.kind, item)
        elif isinstance(kind, Mapping):
            for key, item in value.items():
                _write(out, number, kind.entry, {"key": key, "value": item})
        elif isinstance(kind, Schema) or value:
            _write(out, number, kind, value)
    return bytes(out)


def decode(schema: Schema, data: bytes | memoryview, depth: int = 0) -> dict[str, Any]:
    """
    Read a message; unknown fields are skipped, absent ones read as their default, absent messages as None.

    Raises ``ProtobufError`` for truncated, over-long or ill-typed input.
    """
    if depth > MAX_DEPTH:
        raise ProtobufError("nested too deeply")
    values = {name: _default(kind) for name, kind in schema.fields.values()}
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        wire, payload, position = _payload(data, position, tag & 7)
        field = schema.fields.get(tag >> 3)
        if field is not None:
            _store(values, field, wire, payload, depth)
    return values


def _default(kind: Any) -> Any:
    if isinstance(kind, Repeated):
        return []
    if isinstance(kind, Mapping):
        return {}
    return None if isinstance(kind, Schema) else _DEFAULTS[kind]


def _write(out: bytearray, number: int, kind: Any, value: Any) -> None:
    if isinstance(kind, Schema):
        payload = encode(kind, value)
    elif kind == STRING:
        payload = value.encode("utf-8", "surrogateescape")
    elif kind == BYTES:
        payload = bytes(value)
    else:
        _write_varint(out, number << 3)
        _write_varint(out, int(value))
        return
    _write_varint(out, number << 3 | 2)
    _write_varint(out, len(payload))
    out += payload


def _write_varint(out: bytearray, number: int) -> None:
    if number < 0:
        number += 1 << 64
    while number >= _CONTINUES:
        out.append(number & 127 | _CONTINUES)
        number >>= 7
    out.append(number)


def _varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    for byte in data[position : position + _MAX_VARINT_BYTES]:
        position += 1
        number |= (byte & 127) << shift
        if byte < _CONTINUES:
            return number & (1 << 64) - 1, position
        shift += 7
    raise ProtobufError("truncated or over-long varint")


def _payload(data: bytes | memoryview, position: int, wire: int) -> tuple[int, Any, int]:
    if wire == _WIRE_VARINT:
        number, position = _varint(data, position)
        return wire, number, position
    if wire == _WIRE_LENGTH:
        length, position = _varint(data, position)
    elif wire in _WIRE_FIXED:
        length = _WIRE_FIXED[wire]
    else:
        raise ProtobufError("unknown wire type")
    end = position + length
    if end > len(data):
        raise ProtobufError("truncated field")
    return wire, data[position:end], end


def _store(values: dict[str, Any], field: tuple[str, Any], wire: int, payload: Any, depth: int) -> None:
    name, kind = field
    if isinstance(kind, Mapping):
        entry = _scalar(kind.entry, wire, payload, depth)
        values[name][entry["key"]] = entry["value"]
    elif not isinstance(kind, Repeated):
        values[name] = _scalar(kind, wire, payload, depth)
    elif wire == _WIRE_LENGTH and kind.kind in (UINT, INT, BOOL):
        position = 0
        while position < len(payload):
            number, position = _varint(payload, position)
            values[name].append(_scalar(kind.kind, 0, number, depth))
    else:
        values[name].append(_scalar(kind.kind, wire, payload, depth))


def _scalar(kind: Any, wire: int, payload: Any, depth: int) -> Any:
    numeric = kind in (UINT, INT, BOOL)
    if numeric is not (wire == _WIRE_VARINT):
        raise ProtobufError("field has another wire type")
    if isinstance(kind, Schema):
        return decode(kind, payload, depth + 1)
    if kind == BYTES:
        return bytes(payload)
    if kind == BOOL:
        return bool(payload)
    if kind == INT:
        return payload - (1 << 64) if payload >= 1 << 63 else payload
    if kind == UINT:
        return payload
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise ProtobufError("a text is not UTF-8") from error


EMPTY: Final = Schema("google.protobuf.Empty", {})
ANY: Final = Schema("google.protobuf.Any", {1: ("type_url", STRING), 2: ("value", BYTES)})
TIMESTAMP: Final = Schema("google.protobuf.Timestamp", {1: ("seconds", INT), 2: ("nanos", INT)})
