"""What all SGX byte layouts share: one error, exact lengths, reserved bytes that are zero.

A reserved byte that is not zero means that somebody speaks a newer dialect or hides something; both are
refused.
"""

from __future__ import annotations


class InvalidStructureError(ValueError):
    """Bytes that are not the structure they are said to be; the message names the field."""


def require_length(data: bytes, length: int, what: str) -> None:
    """Refuse `data` unless it has exactly `length` bytes."""
    if len(data) != length:
        raise InvalidStructureError(f"{what}: {len(data)} bytes instead of {length}")


def require_zero(data: bytes, what: str) -> None:
    """Refuse `data` unless every byte is zero."""
    if any(data):
        raise InvalidStructureError(f"{what}: reserved bytes are not zero")


def require_unsigned(value: int, bits: int, what: str) -> None:
    """Refuse a number that does not fit into `bits` unsigned bits."""
    if not 0 <= value < 1 << bits:
        raise InvalidStructureError(f"{what}: does not fit into {bits} bits")
