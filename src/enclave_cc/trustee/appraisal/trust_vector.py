"""The AR4SI trustworthiness vector: eight claims, four tiers, and the worst one counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

CLAIMS: Final = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)
_INT8: Final = range(-128, 128)
# What simulated hardware deserves whatever a policy says: "contraindicated: not genuine".
SIMULATED_HARDWARE: Final = 97


class Tier(IntEnum):
    """What a claim amounts to, from no statement to the worst."""

    NONE = 0
    AFFIRMING = 1
    WARNING = 2
    CONTRAINDICATED = 3

    @classmethod
    def of(cls, value: int) -> Tier:
        """Return the tier of a claim's value (AR4SI §2.3.2)."""
        if -1 <= value <= 1:
            return cls.NONE
        if -32 <= value <= 31:  # noqa: PLR2004 -- the bounds are the specification's table
            return cls.AFFIRMING
        if -96 <= value <= 95:  # noqa: PLR2004 -- as above
            return cls.WARNING
        return cls.CONTRAINDICATED


@dataclass(frozen=True, slots=True)
class TrustVector:
    """Eight values."""

    values: Mapping[str, int]

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what a policy decided; unknown claims, other types and silence raise ``RefusedError``."""
        if not isinstance(value, dict) or not value or not set(value) <= set(CLAIMS):
            raise _refused("data.policy.trust_claims is not an object of known claims")
        for number in value.values():
            if not isinstance(number, int) or isinstance(number, bool) or number not in _INT8:
                raise _refused("a trust claim is not an 8-bit integer")
        return cls({name: value.get(name, 0) for name in CLAIMS})

    def simulated(self) -> TrustVector:
        """Return the vector with hardware that is never better than simulated."""
        hardware = self.values["hardware"]
        worst = hardware if Tier.of(hardware) is Tier.CONTRAINDICATED else SIMULATED_HARDWARE
        return TrustVector({**self.values, "hardware": worst})

    @property
    def status(self) -> str:
        """Return the worst tier as ``ear.status`` writes it."""
        return max(Tier.of(value) for value in self.values.values()).name.lower()

    def findings(self) -> tuple[Finding, ...]:
        """Return the claims that speak against the enclave."""
        return tuple(
            Finding(f"trust-vector.{name}", Outcome.FAILED, "at most 31 (affirming)", str(value))
            for name, value in self.values.items()
            if Tier.of(value) > Tier.AFFIRMING
        )


def _refused(detail: str) -> RefusedError:
    return RefusedError(
        "policy-evaluation-failed", "a policy did not evaluate", stage=Stage.POLICY, detail=detail
    )
