"""Wherever the work on the layers of an image ends early, no thread, file or descriptor of it stays."""

from __future__ import annotations

import errno
import itertools
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.enclave.agent.test_layers import World

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, RefusedError, UnavailableError
from enclave_cc.enclave.agent.course import Cancellation
from enclave_cc.enclave.rootfs.sealing import blob as sealed_blob
from enclave_cc.enclave.rootfs.sealing.writer import SealedImageWriter
from enclave_cc.formats.owner.limits import Limits
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.transport.patience.deadline import Patience

PIECE_BYTES = 4096
# Random content does not compress, so that layers take this many pieces each.
PIECES = 10
LAYERS = 5


class SlowWorld(World):
    """Layers in small pieces; something happens at a certain one of them, counted over all layers."""

    def __init__(self, directory, *, at, happens):
        dice = random.Random(at)
        content = [dice.randbytes(PIECE_BYTES * PIECES) for _ in range(LAYERS)]
        super().__init__(directory, [LayerBuilder().file("f", data).tar() for data in content])
        self.count = itertools.count()
        self.at, self.happens = at, happens

    def open(self, _reference, descriptor):
        data = self.blobs[descriptor.digest]
        for start in range(0, len(data), PIECE_BYTES):
            if next(self.count) == self.at:
                self.happens()
            if self.interrupted.is_set():
                raise UnavailableError("registry-unavailable", "gone", stage="fetch")
            yield data[start : start + PIECE_BYTES]


def _descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def _gone(world, before):
    """Threads may take a moment to end after whoever waited for them was told."""
    deadline = time.monotonic() + 5
    while not world.nothing_left() and time.monotonic() < deadline:
        time.sleep(0.01)
    return world.nothing_left() and _descriptors() == before


@pytest.mark.parametrize("spool_bytes", [1, 100_000, 10_000_000], ids=["streamed", "in turns", "spooled"])
def test_a_cancellation_at_any_piece_leaves_nothing(tmp_path, spool_bytes):
    before = _descriptors()
    for at in range(0, LAYERS * PIECES, 4):
        cancellation = Cancellation()
        world = SlowWorld(tmp_path / str(at), at=at, happens=cancellation.cancel)
        world.directory.parent.mkdir()
        with cancellation.waking(world.interrupted.set), pytest.raises(UnavailableError):
            world.seal(limits=Limits(spool_bytes=spool_bytes), patience=Patience(cancelled=cancellation))
        assert _gone(world, before), at


@pytest.mark.parametrize("spool_bytes", [1, 100_000, 10_000_000], ids=["streamed", "in turns", "spooled"])
def test_a_failure_at_any_piece_leaves_nothing(tmp_path, spool_bytes):
    def fail():
        raise UnavailableError("registry-unavailable", "this one", stage="fetch")

    before = _descriptors()
    for at in range(0, LAYERS * PIECES, 4):
        world = SlowWorld(tmp_path / str(at), at=at, happens=fail)
        world.directory.parent.mkdir()
        with pytest.raises(UnavailableError) as caught:
            world.seal(limits=Limits(spool_bytes=spool_bytes))
        assert caught.value.summary == "this one"
        assert _gone(world, before), at


def test_the_reason_is_heard_even_if_it_comes_last(tmp_path, monkeypatch):
    abort, count = SealedImageWriter.abort, itertools.count()

    def abort_and_dawdle(writer):
        abort(writer)
        if next(count) == 0:
            # The others learn meanwhile that the image is given up, and the waiting one looks at the clock.
            time.sleep(0.6)

    monkeypatch.setattr(SealedImageWriter, "abort", abort_and_dawdle)
    world = SlowWorld(tmp_path, at=-1, happens=None)
    world.layers[0] = replace(world.layers[0], diff_id=Digest.of(b"another"))
    cancellation = Cancellation()
    world.interrupted.set = cancellation.cancel
    with pytest.raises(RefusedError):
        world.seal(patience=Patience(cancelled=cancellation))


def test_a_disk_that_is_full_at_any_write_leaves_nothing(tmp_path, monkeypatch):
    before, write_all, lock = _descriptors(), sealed_blob.write_all, threading.Lock()
    for at in range(LAYERS):
        count = itertools.count()

        def write(fd, data, at=at, count=count):
            with lock:
                if next(count) == at:
                    raise OSError(errno.ENOSPC, "No space left on device")
            write_all(fd, data)

        monkeypatch.setattr(sealed_blob, "write_all", write)
        world = SlowWorld(tmp_path / str(at), at=-1, happens=None)
        world.directory.parent.mkdir()
        with pytest.raises(EnclaveCcError) as caught:
            world.seal()
        assert caught.value.code == "sealed-store-unwritable"
        assert _gone(world, before), at
