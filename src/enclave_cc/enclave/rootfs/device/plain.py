"""The virtual device once all of it was opened: the same bytes, in memory that nobody else writes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainDevice:
    """Read-only bytes in memory, for any thread; ``check`` raises once nothing may be returned any more."""

    opened_in_part: int | None = None

    def __init__(self, plaintext: memoryview, check: Callable[[], None]) -> None:
        self._plaintext = plaintext
        self._check = check
        self.size = len(plaintext)

    def reader(self) -> PlainDevice:
        """Return this, which has no buffers that threads would need for themselves."""
        return self

    def read_into(self, offset: int, out: memoryview) -> int:
        """Copy what there is; return how much; raise ``DeviceRefusedError``."""
        self._check()
        part = self._plaintext[offset : offset + len(out)]
        out[: len(part)] = part
        return len(part)
