"""
All layers of an image at the same time: opened, checked and sealed by a few threads, as fast as cores allow.

Layers begin in their order, which is what keeps shared memory free of dead ends. The first failure, the
owner's deadline or a discarded container ends all of them: nobody reads on, nothing is left, no thread is.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.image.budget import ImageBudget
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.image.pull import open_layer
from enclave_cc.transport.patience.deadline import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from enclave_cc.enclave.rootfs.sealing.writer import SealedImageWriter
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.keys.layer_key import LayerKey
    from enclave_cc.image.layers.progress import LayerProgress
    from enclave_cc.image.limits import Limits
    from enclave_cc.image.ports import BlobSource, LayerKeys
    from enclave_cc.image.pull import Layer

# Each takes a few megabytes of buffers and keeps up to two cores busy.
_MAX_PARALLEL: Final = 4
_MIN_PARALLEL: Final = 2
# How often somebody looks at the progress and at the clock.
_LOOK_S: Final = 0.25


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class LayerWork:
    """What opening layers needs, and how others follow and end it."""

    source: BlobSource
    keys: LayerKeys
    limits: Limits = DEFAULT_LIMITS
    patience: Patience = field(default_factory=Patience)
    # Called when the work fails: ends reads that wait for a peer, and lets nobody begin another.
    interrupt: Callable[[], None] = _nothing
    # Called a few times per second by the thread that waits.
    look: Callable[[], None] = _nothing


class _OneAtATime:
    """Keys for several threads from one session with the broker."""

    def __init__(self, keys: LayerKeys) -> None:
        self._keys = keys
        self._lock = threading.Lock()

    def unwrap(self, descriptor: Descriptor, checks: Checks) -> LayerKey:
        """Return the key of an encrypted layer."""
        with self._lock:
            return self._keys.unwrap(descriptor, checks)


def seal_layers(
    layers: Sequence[Layer],
    progress: Sequence[LayerProgress],
    writer: SealedImageWriter,
    work: LayerWork,
) -> None:
    """Fill the writer with all layers; raise the first failure after the last thread has ended."""
    team = _Team(layers, progress, writer, work)
    team.run(min(len(layers), max(_MIN_PARALLEL, min(_MAX_PARALLEL, os.cpu_count() or 1))))


class _Team:
    """Threads that take one layer after the other, until none is left or one failed."""

    def __init__(
        self,
        layers: Sequence[Layer],
        progress: Sequence[LayerProgress],
        writer: SealedImageWriter,
        work: LayerWork,
    ) -> None:
        self._waiting = iter(zip(layers, progress, strict=True))
        self._writer = writer
        self._work = work
        self._budget = ImageBudget(work.limits)
        self._keys = _OneAtATime(work.keys)
        self._order = threading.Lock()
        self._failing = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, threads: int) -> None:
        members = [threading.Thread(target=self._member, name="layer", daemon=True) for _ in range(threads)]
        try:
            for member in members:
                member.start()
        except RuntimeError as error:
            # No more threads: those that did start are told to end.
            self._fail(error)
        for member in members:
            while member.is_alive():
                member.join(_LOOK_S)
                self._look()
        if self._failure is not None:
            raise self._failure

    def _look(self) -> None:
        try:
            self._work.look()
            self._work.patience.require()
        except Exception as error:  # noqa: BLE001  # whatever it is, the threads must end before it goes on
            self._fail(error)

    def _member(self) -> None:
        try:
            while (taken := self._take()) is not None:
                place, pieces, progress = taken
                with closing(pieces):
                    self._fill(place, pieces)
                progress.finished = True
        except BaseException as error:  # noqa: BLE001  # a thread's outermost boundary: the waiting one raises it again
            self._fail(error)

    def _take(self) -> tuple[int, Generator[memoryview, None, None], LayerProgress] | None:
        """Begin the next layer in its order: its place and its part of the spool."""
        with self._order:
            following = next(self._waiting, None)
            if following is None or self._failure is not None:
                return None
            layer, progress = following
            place = self._writer.reserve_place()
            work = self._work
            pieces = open_layer(
                layer,
                source=work.source,
                keys=self._keys,
                budget=self._budget,
                progress=progress,
            )
            return place, pieces, progress

    def _fill(self, place: int, pieces: Generator[memoryview, None, None]) -> None:
        try:
            self._writer.fill_place(place, pieces)
        except BaseException as error:
            # Before the stream is closed, because closing waits for whoever still reads.
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure and end everybody; what that makes the others raise is no news."""
        with self._failing:
            first = self._failure is None
            # A thread that was told to give up may be quicker than the one that knows why.
            if first or isinstance(self._failure, GivenUpError):
                self._failure = error
        if not first:
            return
        self._budget.spool.close()
        self._writer.abort()
        self._work.interrupt()
