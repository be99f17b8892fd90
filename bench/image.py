"""Pull, verify, decrypt, unpack, seal: whole images, next to the usual tools on the same images in plain."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.image_encryption import primitives, published
from bench.image_peers import Containerd, Spent, inflate_only, registry, skopeo_umoci
from bench.image_stages import bytes_per_entry, stages
from bench.report import Goal, Result, Row, row
from bench.rootfs_images import LARGE, SMALL, image
from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.image_encryption import Published
    from bench.rootfs_images import BuiltImage

# While working on the pipeline: ENCLAVE_CC_BENCH="runs=1 images=small". What is published has all of it.
_SHORTER: Final = "ENCLAVE_CC_BENCH"
_RUNS: Final = 5
_IMAGES: Final = {
    "small": (SMALL, Compression.GZIP),
    "small-zstd": (SMALL, Compression.ZSTD),
    "large": (LARGE, Compression.GZIP),
}
_PRIMITIVES: Final = "read + cipher + HMAC + digests + write"
# Zstd inflates faster than one core digests: next to it the rest of the work cannot disappear.
_INFLATION_GOAL: Final = "image-over-decompressor"
_RATIOS: Final = (
    ("ours", "skopeo + umoci", "image-over-skopeo-umoci", 0.2),
    ("ours", "containerd", "image-over-containerd", 0.5),
    ("ours", "decompressor alone", _INFLATION_GOAL, 1.6),
    ("encrypt", _PRIMITIVES, "image-encrypt-over-primitive", 1.5),
)
_PEAK_MB: Final = 100.0
_NOTE: Final = (
    "Images of Debian packages from a registry on loopback; ours encrypted, signed and sealed, the "
    "others plain. Ours runs in a process that has loaded the agent, a new one for each run. CPU is "
    "user + system of all that works on one side, without the registry, which takes its share of the "
    "same cores. Goals: the image that is hardest for each; zstd does not count for the decompressor's, "
    "because one core inflates it faster than it digests the result. Where the time goes: the rows `of "
    "that` are each stage's processor time alone. Their sum is what the cores share and is within a "
    "tenth of what a whole pull uses: nothing is left that is neither the decompressor, SHA-256 (three "
    "passes over the compressed bytes, one over the others), AES, the kernel's copies nor the scan of "
    "headers. On two cores the limit is half of the sum plus the registry's part."
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How often, and which of the images."""

    runs: int
    images: tuple[str, ...]

    @classmethod
    def read(cls) -> _Plan:
        settings = dict(word.split("=", 1) for word in os.environ.get(_SHORTER, "").split())
        images = settings.get("images", ",".join(_IMAGES)).split(",")
        return cls(int(settings.get("runs", _RUNS)), tuple(images))


@dataclass(frozen=True, slots=True)
class _Ours:
    spent: Spent
    peak_mb: float


def run() -> Result:
    """Measure every image against every tool that this machine has."""
    plan = _Plan.read()
    rows: list[Row] = []
    goals: list[Goal] = []
    for name in plan.images:
        layers, compression = _IMAGES[name]
        found_rows, found_goals = _measure(image(name, layers, compression), compression, plan.runs)
        rows += found_rows
        goals += found_goals
    return Result("image", rows, _worst(goals), _NOTE)


def _worst(goals: list[Goal]) -> list[Goal]:
    """Let the image for which a goal is hardest decide."""
    worst: dict[str, Goal] = {}
    for goal in goals:
        if goal.name not in worst or goal.value > worst[goal.name].value:
            worst[goal.name] = goal
    return list(worst.values())


def _measure(built: BuiltImage, compression: Compression, runs: int) -> tuple[list[Row], list[Goal]]:
    with ExitStack() as stack:
        # Beside the peers' usual places: not in memory, which /tmp may be.
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ecc-bench-", dir="/var/tmp"))
        )
        host = stack.enter_context(registry(directory))
        there = published(built, host, directory)
        actions: dict[str, Callable[[], Spent]] = {
            "decompressor alone": lambda: inflate_only(there.plain_blobs, compression),
            _PRIMITIVES: lambda: primitives(there.plain_blobs, directory),
            "encrypt": lambda: there.encrypt_again(directory),
        }
        # Debian's umoci does not know zstd.
        if compression is Compression.GZIP and shutil.which("skopeo") and shutil.which("umoci"):
            actions["skopeo + umoci"] = lambda: skopeo_umoci(there.plain, directory)
        if shutil.which("containerd") and shutil.which("ctr"):
            daemon = stack.enter_context(Containerd.started(directory))
            actions["containerd"] = lambda: daemon.pull(there.plain)
        ours: list[_Ours] = []
        actions["ours"] = lambda: _ours(there, directory, ours)
        spent = _interleaved(actions, runs)
        shares = [stages(there.plain, there.plain_blobs, compression, directory) for _ in range(runs)]
        memory = [bytes_per_entry(there.plain_blobs, compression)]
    rows = [*_rows(built, spent, ours[1:]), *_stage_rows(built, shares)]
    rows.append(row(f"{built.name}: memory of the tree and its metadata", "bytes/entry", memory))
    return rows, _goals(built, spent, ours[1:])


def _interleaved(actions: dict[str, Callable[[], Spent]], runs: int) -> dict[str, list[Spent]]:
    """Run each in turn after one round of warming up; what one wrote is on disk before the next begins."""
    found: dict[str, list[Spent]] = {name: [] for name in actions}
    for number in range(runs + 1):
        for name, action in actions.items():
            os.sync()
            spent = action()
            if number:
                found[name].append(spent)
    return found


def _ours(there: Published, directory: Path, kept: list[_Ours]) -> Spent:
    sealed = directory / "sealed"
    sealed.mkdir()
    command = (sys.executable, "-m", "bench.agent_pull")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        report = _ordered(process, {**there.order, "directory": str(sealed)})
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(sealed)
    kept.append(_Ours(Spent(report["wall_s"], report["cpu_s"]), report["peak_mb"]))
    return kept[-1].spent


def _ordered(process: subprocess.Popen[str], order: dict[str, Any]) -> dict[str, float]:
    if process.stdin is None or process.stdout is None or process.stdout.readline() != "ready\n":
        raise RuntimeError("the puller did not start")
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    report: dict[str, float] = json.loads(process.stdout.readline())
    return report


def _rows(built: BuiltImage, spent: dict[str, list[Spent]], ours: list[_Ours]) -> list[Row]:
    rows = []
    for name, runs in spent.items():
        rows.append(row(f"{built.name}: {name}, wall", "s", [run.wall_s for run in runs]))
        rows.append(row(f"{built.name}: {name}, user + system", "s", [run.cpu_s for run in runs]))
    speeds = [built.tar_bytes / 1e6 / run.spent.wall_s for run in ours]
    rows.append(row(f"{built.name}: ours, unpacked", "MB/s", speeds))
    rows.append(row(f"{built.name}: ours, peak memory", "MB", [run.peak_mb for run in ours]))
    for mine, peer, _, _ in _RATIOS:
        if peer in spent:
            ratios = _pair_by_pair(spent[mine], spent[peer])
            rows.append(row(f"{built.name}: {mine} / {peer}, pair by pair", "ratio", ratios))
    return rows


def _stage_rows(built: BuiltImage, shares: list[dict[str, float]]) -> list[Row]:
    return [
        row(f"{built.name}: of that, {stage}, alone in one thread", "s", [share[stage] for share in shares])
        for stage in shares[0]
    ]


def _goals(built: BuiltImage, spent: dict[str, list[Spent]], ours: list[_Ours]) -> list[Goal]:
    goals = [
        Goal(name, statistics.median(_pair_by_pair(spent[mine], spent[peer])), target)
        for mine, peer, name, target in _RATIOS
        if peer in spent and (name != _INFLATION_GOAL or built.compression is Compression.GZIP)
    ]
    return [*goals, Goal("image-peak-mb", max(run.peak_mb for run in ours), _PEAK_MB)]


def _pair_by_pair(mine: list[Spent], others: list[Spent]) -> list[float]:
    return [own.wall_s / other.wall_s for own, other in zip(mine, others, strict=True)]
