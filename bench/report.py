"""Rows, goals and the page they end up on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured: the median of several runs, with the extremes."""

    name: str
    unit: str
    median: float
    minimum: float
    maximum: float
    runs: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that must not be exceeded, or one that must at least be reached."""

    name: str
    value: float
    target: float
    at_least: bool = False

    def line(self) -> str:
        """Return the line that the issue asks for."""
        reached = self.value >= self.target if self.at_least else self.value <= self.target
        verdict = "met" if reached else "missed"
        return f"goal {self.name} {self.value:.3g} {self.target:.3g} {verdict}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found."""

    name: str
    rows: list[Row]
    goals: list[Goal] = field(default_factory=list)
    note: str = ""
    # By file name, for bench/plots.
    plots: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return it for the file in bench/results."""
        return {
            "benchmark": self.name,
            "note": self.note,
            "rows": [{slot: getattr(row, slot) for slot in Row.__slots__} for row in self.rows],
            "goals": [goal.line() for goal in self.goals],
        }


def interleaved(
    actions: dict[str, Callable[[], object]], *, runs: int, inner: int = 1
) -> dict[str, list[float]]:
    """Time each action in turn, `runs` rounds after one warm-up; return seconds per call."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_number in range(runs + 1):
        for name, action in actions.items():
            begun = time.perf_counter()
            for _ in range(inner):
                action()
            if round_number:
                times[name].append((time.perf_counter() - begun) / inner)
    return times


def row(name: str, unit: str, values: list[float]) -> Row:
    """Summarise one list of values."""
    return Row(name, unit, statistics.median(values), min(values), max(values), len(values))


def machine_facts() -> dict[str, str]:
    """Say what the figures were taken on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def summary(documents: list[dict[str, Any]]) -> str:
    """Lay out bench/RESULTS.md from the documents in bench/results."""
    lines = [
        "# Measurements",
        "",
        "Written by `make bench`: medians, with extremes in brackets. Machines differ: quote ratios.",
    ]
    for document in documents:
        facts = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
        lines += ["", f"## {document['benchmark']}", "", str(document["note"]), "", facts, ""]
        lines += ["| what | median | unit | runs |", "| --- | --- | --- | --- |"]
        lines += [_table_row(item) for item in document["rows"]]
        lines += ["", *(f"`{line}`  " for line in document["goals"])]
    return "\n".join(lines) + "\n"


def _table_row(item: dict[str, Any]) -> str:
    extremes = f"{item['minimum']:.3g} … {item['maximum']:.3g}"
    return f"| {item['name']} | {item['median']:.3g} ({extremes}) | {item['unit']} | {item['runs']} |"
