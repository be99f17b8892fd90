"""Resource figures of a container, in containerd's metrics messages of cgroup version 1 and 2."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

from enclave_cc.formats.protobuf import UINT, Schema, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_MAX_U64: Final = (1 << 64) - 1
_NO_LIMIT: Final = 1 << 63
# Version 1 counts user and system time in ticks of 10 ms.
_TICK_NS: Final = 10_000_000
_MEMORY_V1: Final = [
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
]
_MEMORY_V2: Final = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
]
_FIRST_V2_TOTAL: Final = 32


def _numbers(name: str, fields: list[str]) -> Schema:
    return Schema(name, {number: (field, UINT) for number, field in enumerate(fields, 1)})


_PIDS: Final = _numbers("PidsStat", ["current", "limit"])
_CPU_V1: Final = Schema(
    "CPUStat",
    {
        1: ("usage", _numbers("CPUUsage", ["total", "kernel", "user"])),
        2: ("throttling", _numbers("Throttle", ["periods", "throttled_periods", "throttled_time"])),
    },
)
_ENTRY: Final = _numbers("MemoryEntry", ["limit", "usage", "max", "failcnt"])
_ENTRIES: Final = {
    "usage": "memory",
    "swap": "memory.memsw",
    "kernel": "memory.kmem",
    "kernel_tcp": "memory.kmem.tcp",
}
_TOTALS: Final = [f"total_{name}" for name in _MEMORY_V1[:15]]
_MEMORY_V1_SCHEMA: Final = Schema(
    "MemoryStat",
    dict(
        enumerate(
            [*((name, UINT) for name in _MEMORY_V1 + _TOTALS), *((name, _ENTRY) for name in _ENTRIES)], 1
        )
    ),
)
_OOM: Final = _numbers("MemoryOomControl", ["oom_kill_disable", "under_oom", "oom_kill"])
_METRICS_V1: Final = Schema(
    "Metrics",
    {
        2: ("pids", _PIDS),
        3: ("cpu", _CPU_V1),
        4: ("memory", _MEMORY_V1_SCHEMA),
        9: ("memory_oom_control", _OOM),
    },
)
_CPU_V2: Final = _numbers(
    "CPUStat", ["usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"]
)
_MEMORY_V2_SCHEMA: Final = Schema(
    "MemoryStat",
    dict(enumerate(((name, UINT) for name in _MEMORY_V2), 1))
    | dict(
        enumerate(
            ((name, UINT) for name in ("usage", "usage_limit", "swap_usage", "swap_limit")), _FIRST_V2_TOTAL
        )
    ),
)
_METRICS_V2: Final = Schema(
    "Metrics", {1: ("pids", _PIDS), 2: ("cpu", _CPU_V2), 4: ("memory", _MEMORY_V2_SCHEMA)}
)


def collect(paths: dict[str, str]) -> dict[str, Any]:
    """Read the figures below a container's control groups into an ``Any``; absent files read as zero."""
    if "memory" in paths or "cpuacct" in paths:
        return {
            "type_url": "io.containerd.cgroups.v1.Metrics",
            "value": encode(_METRICS_V1, _version_1(paths)),
        }
    unified = paths.get("", "")
    return {"type_url": "io.containerd.cgroups.v2.Metrics", "value": encode(_METRICS_V2, _version_2(unified))}


def _version_1(paths: dict[str, str]) -> dict[str, Any]:
    memory = paths.get("memory", "")
    figures: dict[str, Any] = dict(_table(f"{memory}/memory.stat"))
    for name, prefix in _ENTRIES.items():
        figures[name] = {
            "limit": _number(f"{memory}/{prefix}.limit_in_bytes"),
            "usage": _number(f"{memory}/{prefix}.usage_in_bytes"),
            "max": _number(f"{memory}/{prefix}.max_usage_in_bytes"),
            "failcnt": _number(f"{memory}/{prefix}.failcnt"),
        }
    return {
        "pids": _pids(paths.get("pids", "")),
        "cpu": _cpu_version_1(paths),
        "memory": figures,
        "memory_oom_control": _table(f"{memory}/memory.oom_control"),
    }


def _cpu_version_1(paths: dict[str, str]) -> dict[str, Any]:
    accounting = paths.get("cpuacct", "")
    ticks = _table(f"{accounting}/cpuacct.stat")
    throttling = _table(f"{paths.get('cpu', '')}/cpu.stat")
    return {
        "usage": {
            "total": _number(f"{accounting}/cpuacct.usage"),
            "kernel": ticks.get("system", 0) * _TICK_NS,
            "user": ticks.get("user", 0) * _TICK_NS,
        },
        "throttling": {
            "periods": throttling.get("nr_periods", 0),
            "throttled_periods": throttling.get("nr_throttled", 0),
            "throttled_time": throttling.get("throttled_time", 0),
        },
    }


def _version_2(unified: str) -> dict[str, Any]:
    memory = _table(f"{unified}/memory.stat") | {
        "usage": _number(f"{unified}/memory.current"),
        "usage_limit": _number(f"{unified}/memory.max"),
        "swap_usage": _number(f"{unified}/memory.swap.current"),
        "swap_limit": _number(f"{unified}/memory.swap.max"),
    }
    return {"pids": _pids(unified), "cpu": _table(f"{unified}/cpu.stat"), "memory": memory}


def _pids(directory: str) -> dict[str, int]:
    limit = _number(f"{directory}/pids.max")
    return {"current": _number(f"{directory}/pids.current"), "limit": 0 if limit >= _NO_LIMIT else limit}


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
        return _MAX_U64 if text == b"max" else int(text)
    except (OSError, ValueError):
        return 0


def _table(path: str) -> dict[str, int]:
    try:
        with open(path, encoding="ascii") as file:
            return {name: int(value) for name, value in (line.split() for line in file)}
    except (OSError, ValueError):
        return {}
