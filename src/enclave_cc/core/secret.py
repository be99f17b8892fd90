"""Key material that does not end up in logs, JSON or pickles by accident, and can be wiped."""

from __future__ import annotations

import hmac
from typing import Final, Self, final

from enclave_cc.core.secret_memory import secret_memory

_NOTHING: Final = memoryview(bytearray())


@final
class Secret:
    """
    Bytes in memory of their own, whose every rendering says only how long they are.

    ``reveal()`` is easy to grep for. ``wipe()`` overwrites the bytes; copies that a primitive made meanwhile
    are its own affair.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Copy ``value``, which stays the caller's to wipe; see ``absorb``."""
        self._value = secret_memory().take(len(value))
        self._value[:] = value

    @classmethod
    def absorb(cls, buffer: bytearray | memoryview) -> Self:
        """Take over the bytes of a buffer, and overwrite them there."""
        secret = cls(buffer)
        buffer[:] = bytes(len(buffer))
        return secret

    @classmethod
    def random(cls, size_bytes: int = 32) -> Self:
        """Make a fresh key from the system's random source, which writes straight into our memory."""
        secret = cls(bytes(size_bytes))
        secret_memory().fill_randomly(secret._value)
        return secret

    def reveal(self) -> memoryview:
        """Hand out a read-only view; call this next to the primitive that needs it."""
        if not self._value:
            raise ValueError("the secret was wiped")
        return self._value.toreadonly()

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget their length; views handed out see zeros."""
        self._value[:] = bytes(len(self._value))
        self._value = _NOTHING

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
