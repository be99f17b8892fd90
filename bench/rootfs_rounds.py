"""
Rounds of measurements: in each, every store is filled and read in every state, the stores taking turns.

Cold: mounted a moment ago, what is stored still in the page cache. Warm: the same again. Disk-cold: mounted,
then everything dropped. A plain directory has no cold state of its own.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bench import rootfs_reads as reads
from bench.rootfs_sealed_store import SealedStore
from bench.rootfs_stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.rootfs_material import Material
    from bench.rootfs_stores import Readable, Session, Store

_WARM_REPEATS: Final = 3


class State(StrEnum):
    """What the kernel remembers when a measurement begins."""

    COLD = "cold"
    WARM = "warm"
    DISK_COLD = "disk-cold"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of figures: what is measured, in which state."""

    what: str
    state: State = State.ONCE
    unit: str = "ms"

    @property
    def name(self) -> str:
        """Return its name for people."""
        return self.what if self.state is State.ONCE else f"{self.what}, {self.state}"

    @property
    def slug(self) -> str:
        """Return its name for goals."""
        return self.name.replace(",", "").replace(" ", "-").lower()


@dataclass(frozen=True, slots=True)
class _Read:
    what: str
    action: Callable[[Path], float]
    unit: str = "ms"
    on_cold_disk: bool = True


SEAL: Final = Measure("seal")
FIRST_BYTE: Final = Measure("mount to first byte")
DECRYPT: Final = Measure("decrypt all, then mount")
FIRST_EXEC: Final = Measure("mount to first exec")
MEMORY: Final = Measure("server memory", unit="MB")
CPU: Final = Measure("server processor time of tar", State.COLD)
TAR: Final = "tar"
_READS: Final = (
    _Read("find", reads.find),
    _Read(TAR, reads.tar),
    _Read("sequential read", reads.sequential),
    _Read("random 4 KiB", reads.random_dense, unit="us"),
    _Read("random 4 KiB sparse", reads.random_sparse, unit="us"),
    _Read("python start", reads.python),
)
_PER_SECOND: Final = {"ms": 1e3, "us": 1e6}


class Rounds:
    """All figures, by measure and store."""

    def __init__(
        self, stores: Sequence[Store], others: Sequence[Readable], material: Material, only: str = ""
    ) -> None:
        """Measure ``stores``, and ``others``, which read what those keep. ``only`` begins a read's name."""
        self.figures: dict[Measure, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._stores = tuple(stores)
        self._all = (*stores, *others)
        self._material = material
        self._reads = [read for read in _READS if read.what.startswith(only)]

    def run(self, filled: Callable[[], None]) -> None:
        """Take one round; ``filled`` is called when the stores are."""
        for store in self._stores:
            os.sync()
            self._add(SEAL, store, store.fill(self._material.layers, self._material.tree))
        filled()
        for store in self._stores:
            reads.remember(store.home)
        for read in self._reads:
            for store in self._all:
                self._read(read, store)
        for store in self._all:
            self._mount_all(store)
        for read in self._reads:
            for store in self._all:
                if read.on_cold_disk and not store.in_memory:
                    self._read_disk(read, store)

    def _mount_all(self, store: Readable) -> None:
        if isinstance(store, SealedStore) and store.in_memory:
            self._mount(DECRYPT, reads.first_byte, store)
            return
        self._mount(FIRST_EXEC, reads.first_exec, store)
        if not isinstance(store, PlainStore):
            self._mount(FIRST_BYTE, reads.first_byte, store)

    def _read(self, read: _Read, store: Readable) -> None:
        with store.session() as session:
            session.mount()
            before = reads.cpu_s(session.pid) if session.pid else 0.0
            first = read.action(session.root)
            if session.pid:
                self._add(Measure(read.what, State.COLD, read.unit), store, first)
            if session.pid and read.what == TAR:
                self._add(CPU, store, reads.cpu_s(session.pid) - before)
            again = statistics.median(read.action(session.root) for _ in range(_WARM_REPEATS))
            self._add(Measure(read.what, State.WARM, read.unit), store, again)
            if read.what == TAR:
                self._weigh(session, store)

    def _weigh(self, session: Session, store: Readable) -> None:
        if session.pid:
            self.figures[MEMORY][store.name].append(reads.memory_mb(session.pid))

    def _mount(self, measure: Measure, action: Callable[[Path], float], store: Readable) -> None:
        with store.session() as session:
            begun = time.perf_counter()
            session.mount()
            action(session.root)
            self._add(measure, store, time.perf_counter() - begun)

    def _read_disk(self, read: _Read, store: Readable) -> None:
        with store.session() as session:
            session.mount()
            reads.forget()
            self._add(Measure(read.what, State.DISK_COLD, read.unit), store, read.action(session.root))

    def _add(self, measure: Measure, store: Readable, taken_s: float) -> None:
        self.figures[measure][store.name].append(taken_s * _PER_SECOND[measure.unit])
