"""The rows of the root file system as pictures, one for each state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bar_chart import Bar, Group, bar_chart
from bench.rootfs_stores import DECRYPTED, GOCRYPTFS, NATIVE, OURS, OVERLAID, TMPFS, TREE

if TYPE_CHECKING:
    from bench.report import Row

_SERIES: Final = (OURS, TREE, DECRYPTED, GOCRYPTFS, OVERLAID, NATIVE, TMPFS)
_TITLES: Final = {
    "rootfs-warm.svg": ("Warm: read before (shorter is better)", ", warm"),
    "rootfs-cold.svg": (
        "Cold: mounted a moment ago, stored bytes in the page cache (shorter is better)",
        ", cold",
    ),
    "rootfs-disk-cold.svg": ("Disk-cold: nothing in memory (shorter is better)", ", disk-cold"),
    "rootfs-once.svg": ("Sealing, mounting and the server (shorter is better)", ""),
}


def plots(rows: list[Row]) -> dict[str, str]:
    """Return each picture by its file name."""
    groups: dict[str, list[Group]] = {name: [] for name in _TITLES}
    for what, members in _by_measure(rows).items():
        picture = next(name for name, (_title, ending) in _TITLES.items() if what.endswith(ending))
        bars = tuple(
            Bar(store, item.median, item.minimum, item.maximum)
            for store, item in sorted(members.items(), key=lambda member: _SERIES.index(member[0]))
        )
        name = what.removesuffix(_TITLES[picture][1])
        groups[picture].append(Group(name, next(iter(members.values())).unit, bars))
    return {name: bar_chart(_TITLES[name][0], found, _SERIES) for name, found in groups.items() if found}


def _by_measure(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """Group rows, which are named `what: store`."""
    found: dict[str, dict[str, Row]] = {}
    for item in rows:
        what, _, store = item.name.rpartition(": ")
        found.setdefault(what, {})[store] = item
    return found
