"""The sealed root file system next to gocryptfs, native ext4 and memory: filled, mounted, read, weighed."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.needs import require_programs, require_root
from bench.report import Result, row
from bench.rootfs_goals import goals
from bench.rootfs_images import LARGE, SMALL, image
from bench.rootfs_material import material, workspace
from bench.rootfs_plots import plots
from bench.rootfs_rounds import Rounds
from bench.rootfs_sealed_store import SealedStore
from bench.rootfs_stores import (
    DECRYPTED,
    NATIVE,
    OURS,
    OVERLAID,
    TMPFS,
    TREE,
    GocryptfsStore,
    OverlaidStore,
    PlainStore,
)
from enclave_cc.enclave.agent.main import spare_collector
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.node.shim.linux import unshare_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.rootfs_material import Material
    from bench.rootfs_rounds import Measure

# While working on it: ENCLAVE_CC_BENCH="runs=1 only=random". What is published has the defaults.
_SHORTER: Final = "ENCLAVE_CC_BENCH"
_RUNS: Final = 5
_IMAGES: Final = {"small": SMALL, "large": LARGE}
_PACKAGES: Final = {"gocryptfs": "gocryptfs", "fio": "fio", "fusermount": "fuse3", "mkfs.ext4": "e2fsprogs"}
_NOTE: Final = (
    "One image of Debian packages (base, Python, pandas), with Python's compiled modules and a file of "
    "128 MiB. All stores lie on one ext4, and take turns in each round. Seal: from tar streams; ours takes "
    "all layers, the others the merged tree, which is less; nobody flushes. Cold: mounted a moment ago, what "
    "is stored is in the page cache. Warm: the same again, median of three. Disk-cold: mounted, then all "
    "caches dropped. Ours is read through its overlay; ext4 once through one, as containers read it, and "
    "once directly; gocryptfs and memory directly. Random reads: mean time of one, each block of the file "
    "once; sparse: 512 reads all over the file, so that what lies around one does not help the next. "
    "Python start: `import json,ssl`. First exec: from the key or the command to mount, to the end of "
    "`python3 -c pass` in it; our server is forked and has tried out how to mount by then, as while boot "
    "attests; gocryptfs is started. In memory: decrypted before it is mounted. Memory: PSS after `tar`, "
    "without the page cache and without what lies decrypted in memory."
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How often, which image, and which reads: all whose names begin so."""

    runs: int
    image: str
    only: str

    @classmethod
    def read(cls) -> _Plan:
        settings = dict(word.split("=", 1) for word in os.environ.get(_SHORTER, "").split())
        names = settings.get("images", "small").split(",")
        return cls(int(settings.get("runs", _RUNS)), names[0], settings.get("only", ""))


def run() -> Result:
    """Measure every store in every state."""
    require_root()
    require_programs(_PACKAGES)
    plan = _Plan.read()
    built = image(plan.image, _IMAGES[plan.image], Compression.GZIP)
    spare_collector()
    unshare_mounts()
    with workspace() as directory:
        made = material(built, directory)
        figures = _rounds(made, directory, plan)
    rows = [
        row(f"{measure.name}: {store}", measure.unit, values)
        for measure, by_store in figures.items()
        for store, values in by_store.items()
    ]
    return Result("rootfs", rows, goals(figures), _NOTE, plots(rows))


def _rounds(made: Material, directory: Path, plan: _Plan) -> dict[Measure, dict[str, list[float]]]:
    ours = SealedStore(OURS, directory)
    others = (
        SealedStore(TREE, directory, backend="fuse-tree"),
        SealedStore(DECRYPTED, directory, to_memory=True),
    )
    native = PlainStore(NATIVE, directory / "native")
    with _memory(directory / "tmpfs") as memory:
        stores = (
            ours,
            GocryptfsStore(directory),
            native,
            PlainStore(TMPFS, memory, in_memory=True),
        )
        rounds = Rounds(stores, (*others, OverlaidStore(OVERLAID, directory, native.home)), made, plan.only)
        for _ in range(plan.runs):
            rounds.run(lambda: [other.share(ours) for other in others])
    return rounds.figures


@contextmanager
def _memory(target: Path) -> Iterator[Path]:
    target.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "bench", str(target)), check=True)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ("umount", str(target)), check=True)
        yield target / "tree"
