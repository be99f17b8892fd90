"""Containers with random layers in random orders at once: each is right or refused, and none hangs."""

from __future__ import annotations

import random
import threading
import time

import pytest
from tests.enclave.agent.test_layers import World, padded

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.enclave.agent.course import Cancellation
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerStore
from enclave_cc.enclave.rootfs.sealing.merge import TreeMerger
from enclave_cc.formats.owner.limits import Limits
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.transport.patience.deadline import Patience

HANGS_S = 60


class Container:
    """One image of a pod, some of which have a bad layer, and some of which are given up on the way."""

    def __init__(self, directory, dice, pool, store):
        self.store, self.tars = store, [dice.choice(pool) for _ in range(dice.randint(1, 7))]
        self.spool_bytes = dice.choice([10, 3000, 10_000_000])
        directory.mkdir()
        self.world, self.cancellation = World(directory, self.tars), Cancellation()
        self.may_fail = set()
        if dice.random() < 0.2:
            digest = dice.choice(self.world.layers).descriptor.digest
            self.world.blobs[digest] = bytes(len(self.world.blobs[digest]))
            self.may_fail |= {"layer-digest-mismatch", "layer-corrupt"}
        self.given_up = dice.random() < 0.2
        if self.given_up:
            self.may_fail.add("cancelled")
        self.outcome = ""
        self.thread = threading.Thread(target=self.seal, daemon=True)

    def seal(self):
        try:
            limits, patience = Limits(spool_bytes=self.spool_bytes), Patience(cancelled=self.cancellation)
            self.world.seal(store=self.store, limits=limits, patience=patience)
            self.outcome = "sealed"
        except EnclaveCcError as error:
            self.outcome = error.code

    def check(self):
        self.thread.join(HANGS_S)
        assert not self.thread.is_alive(), "hangs"
        if self.outcome == "sealed":
            assert self.world.opened() == [padded(data) for data in self.tars]
        else:
            assert self.outcome in self.may_fail
            assert not self.world.directory.exists()
        self.store.release(self.world.directory)


def random_tar(dice, number):
    builder = LayerBuilder()
    for file in range(dice.choice([1, 50, 300])):
        builder.file(f"{number}-{file}", dice.randbytes(dice.choice([0, 10, 3000])))
    return builder.tar()


@pytest.mark.parametrize("seed", range(12))
def test_random_containers_at_the_same_time(tmp_path, monkeypatch, seed):
    # So few may be held back that a layer out of turn waits at once.
    monkeypatch.setattr(TreeMerger.__init__, "__kwdefaults__", {"held_entries": 1})
    dice, store = random.Random(seed), LayerStore()
    pool = [random_tar(dice, number) for number in range(6)]
    containers = [
        Container(tmp_path / str(number), dice, pool, store) for number in range(dice.randint(2, 4))
    ]
    for container in containers:
        container.thread.start()
        time.sleep(dice.random() * 0.02)
    for container in containers:
        if container.given_up:
            container.cancellation.cancel()
    for container in containers:
        container.check()
    assert not store.records
