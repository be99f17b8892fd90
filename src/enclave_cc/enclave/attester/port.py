"""What makes evidence for a broker."""

from __future__ import annotations

from typing import Protocol, TypeAlias

# The broker's protocol carries evidence as a JSON object whose shape depends on the kind of TEE.
Evidence: TypeAlias = dict[str, str]


class Attester(Protocol):
    """Makes evidence of one kind of TEE."""

    @property
    def tee(self) -> str:
        """Kind of TEE as the broker's protocol names it."""
        ...

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds `report_data` (at most 64 bytes, zero-padded on the right)."""
        ...
