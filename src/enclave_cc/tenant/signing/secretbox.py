"""
NaCl's secretbox (XSalsa20 with Poly1305), for files of a few hundred bytes.

Cosign keeps private keys in it and no library here has Salsa20. This is for the owner's tools only: slow, and
not as constant in time as compiled code, on a key whose password the person at the machine just gave.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
_BLOCK_BYTES: Final = 64
_MASK: Final = 0xFFFFFFFF
_ROUND_PAIRS: Final = 10
_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")
# Where the constants and the input stand in the state; a core without feed-forward returns these words.
_OUTER: Final = (0, 5, 10, 15, 6, 7, 8, 9)
_COLUMNS: Final = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS: Final = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def seal(plaintext: bytes, *, key: bytes, nonce: bytes) -> bytes:
    """Return tag and ciphertext."""
    first, stream = _streams(key, nonce, len(plaintext))
    ciphertext = _xor(plaintext, stream)
    return Poly1305.generate_tag(first, ciphertext) + ciphertext


def unseal(box: bytes, *, key: bytes, nonce: bytes) -> bytes:
    """Return the plaintext; raise ``ValueError`` for another key or changed bytes."""
    tag, ciphertext = box[:TAG_BYTES], box[TAG_BYTES:]
    first, stream = _streams(key, nonce, len(ciphertext))
    try:
        Poly1305.verify_tag(first, ciphertext, tag)
    except (InvalidSignature, ValueError) as error:
        raise ValueError("the password is wrong, or the file was changed") from error
    return _xor(ciphertext, stream)


def _streams(key: bytes, nonce: bytes, size: int) -> tuple[bytes, bytes]:
    """Return Poly1305's key, which is the first half block, and the key stream after it."""
    if (len(key), len(nonce)) != (KEY_BYTES, NONCE_BYTES):
        raise ValueError("a key or nonce of another length")
    words = _core(_state(key, struct.unpack("<4I", nonce[:16])))
    subkey = struct.pack("<8I", *(words[place] for place in _OUTER))
    stream = b"".join(_blocks(subkey, nonce[16:], KEY_BYTES + size))
    return stream[:KEY_BYTES], stream[KEY_BYTES:]


def _blocks(key: bytes, nonce: bytes, size: int) -> Iterator[bytes]:
    for counter in range(-(-size // _BLOCK_BYTES)):
        state = _state(key, (*struct.unpack("<2I", nonce), counter & _MASK, counter >> 32))
        mixed = _core(state)
        yield struct.pack("<16I", *((a + b) & _MASK for a, b in zip(state, mixed, strict=True)))


def _state(key: bytes, middle: Sequence[int]) -> list[int]:
    words = struct.unpack("<8I", key)
    a, b, c, d = _SIGMA
    return [a, *words[:4], b, *middle, c, *words[4:], d]


def _core(state: Sequence[int]) -> list[int]:
    """Salsa20's double rounds, without the addition of the input at the end."""
    x = list(state)
    for _ in range(_ROUND_PAIRS):
        for quarter in (*_COLUMNS, *_ROWS):
            _quarter_round(x, *quarter)
    return x


def _quarter_round(x: list[int], a: int, b: int, c: int, d: int) -> None:
    x[b] ^= _rotated(x[a] + x[d], 7)
    x[c] ^= _rotated(x[b] + x[a], 9)
    x[d] ^= _rotated(x[c] + x[b], 13)
    x[a] ^= _rotated(x[d] + x[c], 18)


def _rotated(value: int, by: int) -> int:
    value &= _MASK
    return (value << by | value >> (32 - by)) & _MASK


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, stream[: len(data)], strict=True))
