"""What a run of the demo leaves on paper: stages with durations, refusals with both views, one verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from enclave_cc.core.findings import Finding
    from enclave_cc.demo.cri.host_view import HostView


@dataclass(frozen=True, slots=True)
class StageReport:
    """One step that succeeded, or did not."""

    name: str
    duration_s: float
    ok: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return JSON members."""
        return {
            "name": self.name,
            "duration_s": round(self.duration_s, 3),
            "ok": self.ok,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class RefusalReport:
    """One broken input: what was expected, what the host saw, what the owner can read."""

    name: str
    expected_code: str
    host: HostView
    owner: tuple[Finding, ...]
    duration_s: float
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it was refused for the right reason and both views say so."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """Return JSON members."""
        return {
            "name": self.name,
            "expected_code": self.expected_code,
            "ok": self.ok,
            "duration_s": round(self.duration_s, 3),
            "host": self.host.to_json(),
            "owner": [finding.to_json() for finding in self.owner],
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything that happened."""

    stages: tuple[StageReport, ...]
    refusals: tuple[RefusalReport, ...]
    look_around: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether every success succeeded and every refusal was refused for the right reason."""
        successes = all(stage.ok for stage in self.stages)
        refusals = all(refusal.ok for refusal in self.refusals)
        return bool(self.stages and self.refusals) and successes and refusals

    def to_json(self) -> dict[str, object]:
        """Return JSON members."""
        return {
            "ok": self.ok,
            "stages": [stage.to_json() for stage in self.stages],
            "refusals": [refusal.to_json() for refusal in self.refusals],
        }


class Reporter(Protocol):
    """Who shows the story while it happens."""

    def stage_started(self, name: str) -> None:
        """Tell that a step begins."""

    def stage_ended(self, stage: StageReport) -> None:
        """Tell how it ended."""

    def refusal_ended(self, refusal: RefusalReport) -> None:
        """Show a refusal with both views."""

    def kept(self, look_around: tuple[str, ...]) -> None:
        """Say how to look around, and return when the person has seen enough."""
