"""Readers share, a writer is alone, and what does not overlap does not matter."""

from __future__ import annotations

import threading

import pytest

from enclave_cc.enclave.rootfs.device.ranges import RangeLock


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ((range(5), False), (range(5), False), False),
        ((range(5), True), (range(5, 9), True), False),
        ((range(5), True), (range(4, 9), False), True),
        ((range(5), False), (range(4, 9), True), True),
        ((range(3, 4), True), (range(9), True), True),
    ],
)
def test_only_a_writer_of_the_same_blocks_is_waited_for(first, second, waits):
    lock = RangeLock()
    entered = threading.Event()

    def enter():
        with lock.hold(second[0], exclusive=second[1]):
            entered.set()

    thread = threading.Thread(target=enter)
    with lock.hold(first[0], exclusive=first[1]):
        thread.start()
        assert entered.wait(0.1 if waits else 5) is not waits
    assert entered.wait(5)
    thread.join()


def test_a_failure_inside_frees_the_range():
    lock = RangeLock()
    with pytest.raises(KeyError), lock.hold(range(3), exclusive=True):
        raise KeyError
    with lock.hold(range(3), exclusive=True):
        pass
