"""
All layers of an image at the same time: opened, checked and sealed by a few threads, as fast as cores allow.

Layers begin in their order, which is what keeps shared memory free of dead ends. One that was sealed before,
for this image or for another container of the pod, is taken over instead of opened, after its key was asked
for all the same. The first failure, the owner's deadline or a discarded container ends all of them: nobody
reads on, nothing is left, no thread is.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NoReturn

from enclave_cc.core.errors import RefusedError, UnavailableError
from enclave_cc.enclave.agent.layer_identity import KeyInHand
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerStore, StoredLayer
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.image.budget import ImageBudget
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.image.pull import open_layer
from enclave_cc.transport.patience.deadline import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from enclave_cc.enclave.rootfs.sealing.layer_store import Claim, LayerShare
    from enclave_cc.enclave.rootfs.sealing.writer import SealedImageWriter
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


def seal_layers(
    layers: Sequence[Layer],
    progress: Sequence[LayerProgress],
    writer: SealedImageWriter,
    work: LayerWork,
    share: LayerShare | None = None,
) -> None:
    """
    Fill the writer with all layers; raise the first failure after the last thread has ended.

    Layers are shared with those who have a part in the same store; without one, with this image only.
    """
    with ExitStack() as cleanup:
        if share is None:
            share = LayerStore().share(writer.directory.path)
            cleanup.callback(share.end)
        team = _Team(layers, progress, writer, work, share)
        team.run(min(len(layers), max(_MIN_PARALLEL, min(_MAX_PARALLEL, os.cpu_count() or 1))))


@dataclass(frozen=True, slots=True)
class _Task:
    """One layer that was begun; its stream exists already if room was reserved for it."""

    place: int
    layer: Layer
    progress: LayerProgress
    key: KeyInHand
    claim: Claim
    pieces: Generator[memoryview, None, None] | None = None


class _Team:
    """Threads that take one layer after the other, until none is left or one failed."""

    def __init__(
        self,
        layers: Sequence[Layer],
        progress: Sequence[LayerProgress],
        writer: SealedImageWriter,
        work: LayerWork,
        share: LayerShare,
    ) -> None:
        self._waiting = iter(zip(layers, progress, strict=True))
        self._writer = writer
        self._work = work
        self._share = share
        self._budget = ImageBudget(work.limits)
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
            self._raise(self._failure)

    def _raise(self, failure: BaseException) -> NoReturn:
        """Raise the failure, or that the time is over where that is why a peer seemed to be gone."""
        if isinstance(failure, UnavailableError) and failure.code == "registry-unavailable":
            try:
                Patience(self._work.patience.deadline).require()
            except UnavailableError as late:
                raise late from failure
        raise failure

    def _look(self) -> None:
        try:
            self._work.look()
            self._work.patience.require()
        except Exception as error:  # noqa: BLE001  # whatever it is, the threads must end before it goes on
            self._fail(error)

    def _member(self) -> None:
        try:
            while (task := self._take()) is not None:
                try:
                    self._seal(task)
                finally:
                    task.key.wipe()
                task.progress.finished = True
        except BaseException as error:  # noqa: BLE001  # a thread's outermost boundary: the waiting one raises it again
            self._fail(error)

    def _take(self) -> _Task | None:
        """Begin the next layer in its order: its place, its key and its part of the spool."""
        with self._order:
            following = next(self._waiting, None)
            if following is None or self._failure is not None:
                return None
            layer, progress = following
            place = self._writer.reserve_place()
            # One after the other: they come from one session with the broker.
            key = KeyInHand(layer, self._work.keys)
            with ExitStack() as unless_begun:
                unless_begun.callback(key.wipe)
                claim = self._share.claim(key.identity(), place)
                task = _Task(place, layer, progress, key, claim)
                if claim.ours:
                    task = replace(task, pieces=self._open(task, spooled=True))
                unless_begun.pop_all()
            return task

    def _open(self, task: _Task, *, spooled: bool) -> Generator[memoryview, None, None]:
        return open_layer(
            task.layer,
            source=self._work.source,
            keys=task.key,
            budget=self._budget,
            progress=task.progress,
            spooled=spooled,
        )

    def _seal(self, task: _Task) -> None:
        """Take the layer over or open it; then it is others' turn to take it over."""
        stored = None if task.claim.ours else task.claim.adopt(self._writer.directory.link_blob)
        if stored is not None:
            self._reuse(task, stored)
            return
        tar_bytes = self._fill(task.place, task.pieces or self._open(task, spooled=False))
        if task.claim.ours:
            task.claim.publish(StoredLayer(self._writer.copy_of(task.place), tar_bytes))

    def _reuse(self, task: _Task, stored: StoredLayer) -> None:
        with ExitStack() as unless_taken:
            unless_taken.callback(stored.blob.key.wipe)
            self._budget.uncompressed.count(stored.tar_bytes)
            unless_taken.pop_all()
        try:
            self._writer.reuse_place(task.place, stored.blob)
        except RefusedError:
            # Whoever tries again shall get it from where it came from first.
            task.claim.distrust()
            raise
        task.progress.reuse()

    def _fill(self, place: int, pieces: Generator[memoryview, None, None]) -> int:
        with closing(pieces):
            try:
                return self._writer.fill_place(place, pieces)
            except BaseException as error:
                # Before the stream is closed, because closing waits for whoever still reads.
                self._fail(error)
                raise

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure and end everybody; what that makes the others raise is no news."""
        with self._failing:
            known = self._failure is not None and not isinstance(self._failure, GivenUpError)
            if not known:
                self._failure = error
        # A thread that was told to give up may be quicker than the one that knows why. Ended by the former,
        # the others would have reasons of their own before the latter has told its.
        if known or isinstance(error, GivenUpError):
            return
        self._budget.spool.close()
        self._share.end()
        self._writer.abort()
        self._work.interrupt()
