"""
Ed25519ph (RFC 8032, 5.1), verification only: what cosign makes with Ed25519 keys.

The library below us has Ed25519 without prehashing only. Everything here is public, so nothing has to be
constant in time; a signature takes a few milliseconds. Points are extended coordinates (X, Y, Z, T), x = X/Z,
y = Y/Z, xy = T/Z, on -x² + y² = 1 + dx²y².
"""

from __future__ import annotations

import hashlib
from typing import Final

_Point = tuple[int, int, int, int]

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE: Final = pow(2, (_P - 1) // 4, _P)
_HALF_BYTES: Final = 32
# RFC 8032, 2: dom2 with the prehash flag and an empty context.
_DOMAIN: Final = b"SigEd25519 no Ed25519 collisions\x01\x00"
_NEUTRAL: Final = (0, 1, 1, 0)


def has_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature (64 bytes) is the key's (32 bytes) over the SHA-512 of the message."""
    point = _decode(public)
    commitment = _decode(signature[:_HALF_BYTES])
    scalar = int.from_bytes(signature[_HALF_BYTES:], "little")
    # 5.1.7, step 1: a scalar beyond the order would make signatures malleable.
    if len(signature) != 2 * _HALF_BYTES or point is None or commitment is None or scalar >= _ORDER:
        return False
    prehash = hashlib.sha512(message).digest()
    challenge = hashlib.sha512(_DOMAIN + signature[:_HALF_BYTES] + public + prehash).digest()
    k = int.from_bytes(challenge, "little") % _ORDER
    # Step 3, without the cofactor: what is accepted here every verifier accepts.
    return _equal(_times(scalar, _base()), _sum(commitment, _times(k, point)))


def _base() -> _Point:
    y = 4 * pow(5, -1, _P) % _P
    point = _decode(y.to_bytes(_HALF_BYTES, "little"))
    if point is None:
        raise ArithmeticError
    return point


def _decode(data: bytes) -> _Point | None:
    """Read a point (5.1.3); None for what is none, and for an encoding that is not the canonical one."""
    if len(data) != _HALF_BYTES:
        return None
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _sum(left: _Point, right: _Point) -> _Point:
    """Add two points (5.1.4)."""
    a = (left[1] - left[0]) * (right[1] - right[0]) % _P
    b = (left[1] + left[0]) * (right[1] + right[0]) % _P
    c = 2 * left[3] * right[3] * _D % _P
    d = 2 * left[2] * right[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(scalar: int, point: _Point) -> _Point:
    result: _Point = _NEUTRAL
    while scalar:
        if scalar & 1:
            result = _sum(result, point)
        point = _sum(point, point)
        scalar >>= 1
    return result


def _equal(left: _Point, right: _Point) -> bool:
    same_x = (left[0] * right[2] - right[0] * left[2]) % _P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % _P == 0
