"""What the figures of the root file system must reach: ahead of gocryptfs, close to native, small, quick."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.report import Goal
from bench.rootfs_rounds import FIRST_EXEC, MEMORY, TAR, Measure, State
from bench.rootfs_stores import GOCRYPTFS, NATIVE, OURS, OVERLAID

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_NATIVE: Final = 0.9
_FIRST_EXEC_MS: Final = 40.0
_SERVER_MB: Final = 25.0
_TAR_FROM_DISK: Final = Measure(TAR, State.DISK_COLD)


def goals(figures: Mapping[Measure, Mapping[str, list[float]]]) -> list[Goal]:
    """Return a goal for each measure that has one."""
    found = [
        Goal(f"rootfs-{measure.slug}-over-gocryptfs", _ratio(by_store, OURS, GOCRYPTFS), 1.0)
        for measure, by_store in figures.items()
        if GOCRYPTFS in by_store
    ]
    found += [
        Goal(f"rootfs-{measure.slug}-of-{name}", _ratio(by_store, store, OURS), _OF_NATIVE, at_least=True)
        for store, name in ((NATIVE, "native"), (OVERLAID, "native-in-overlay"))
        for measure, by_store in figures.items()
        if measure.state is State.WARM
    ]
    if by_store := figures.get(_TAR_FROM_DISK):
        found.append(Goal(f"rootfs-{_TAR_FROM_DISK.slug}-over-native", _ratio(by_store, OURS, NATIVE), 1.0))
    if by_store := figures.get(FIRST_EXEC):
        found.append(Goal("rootfs-first-exec-ms", statistics.median(by_store[OURS]), _FIRST_EXEC_MS))
    if by_store := figures.get(MEMORY):
        found.append(Goal("rootfs-server-mb", max(by_store[OURS]), _SERVER_MB))
    return found


def _ratio(by_store: Mapping[str, list[float]], above: str, below: str) -> float:
    """Compare pair by pair: what disturbs one disturbs its neighbour."""
    return statistics.median(a / b for a, b in zip(by_store[above], by_store[below], strict=True))
