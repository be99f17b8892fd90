"""Key material that does not end up in logs, JSON or pickles by accident, and can be wiped."""

from __future__ import annotations

import hmac
import os
from typing import Self, final


@final
class Secret:
    """
    Bytes in a buffer of their own, whose every rendering says only how long they are.

    ``reveal()`` is easy to grep for. ``wipe()`` overwrites the buffer; copies that a primitive
    made meanwhile are its own affair.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytearray(value)

    @classmethod
    def random(cls, size_bytes: int = 32) -> Self:
        """Make a fresh key from the system's random source."""
        return cls(os.urandom(size_bytes))

    def reveal(self) -> memoryview:
        """Hand out a read-only view; call this next to the primitive that needs it."""
        if not self._value:
            raise ValueError("the secret was wiped")
        return memoryview(self._value).toreadonly()

    def wipe(self) -> None:
        """Overwrite the buffer with zeros and forget its length; views handed out see zeros."""
        for index in range(len(self._value)):
            self._value[index] = 0
        self._value = bytearray()

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"<Secret of {len(self._value)} bytes>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("secrets are not pickled")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a mutable secret has no hash
