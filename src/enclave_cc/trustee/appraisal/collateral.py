"""
Where the verifier gets its collateral from, and how long it keeps it.

Collateral is untrusted whatever brought it; keeping it only saves a fetch. The age is bounded
so that a revocation is seen within hours, not at the end of its validity.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.dcap.collateral import MAX_COLLATERAL_BYTES, Collateral, InvalidCollateralError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

MAX_AGE: Final = timedelta(hours=1)
# One entry per platform model; a fleet has few.
_MAX_ENTRIES: Final = 64


class CollateralSource(Protocol):
    """Finds what is needed to verify quotes of one platform model."""

    def fetch(self, fmspc: str, ca: str) -> Collateral:
        """Return collateral for an FMSPC (hexadecimal) and a PCK CA (``platform`` or ``processor``)."""


@dataclass(frozen=True, slots=True)
class CollateralFile:
    """Collateral for one platform, in a file."""

    path: Path

    def fetch(self, fmspc: str, ca: str) -> Collateral:  # noqa: ARG002 -- a file is about one platform; the verifier checks which
        """Read the file; raise ``InvalidInputError`` (``collateral-invalid``)."""
        try:
            with self.path.open("rb") as file:
                return Collateral.from_json(file.read(MAX_COLLATERAL_BYTES + 1))
        except (OSError, InvalidCollateralError) as error:
            raise InvalidInputError(
                "collateral-invalid",
                "the collateral file is not usable",
                stage=Stage.ATTEST,
                detail=str(error),
            ) from error


@dataclass(slots=True)
class CollateralCache:
    """Keeps collateral of a source for at most ``MAX_AGE``."""

    source: CollateralSource
    now: Callable[[], datetime]
    _entries: dict[tuple[str, str], tuple[datetime, Collateral]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, fmspc: str, ca: str) -> Collateral:
        """Return collateral that was fetched less than ``MAX_AGE`` ago."""
        now = self.now()
        with self._lock:
            kept = self._entries.get((fmspc, ca))
        if kept is not None and timedelta() <= now - kept[0] < MAX_AGE:
            return kept[1]
        collateral = self.source.fetch(fmspc, ca)
        with self._lock:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            self._entries[fmspc, ca] = (now, collateral)
        return collateral
