from __future__ import annotations

import os

import pytest

from enclave_cc.node.shim.reactor import (
    READABLE,
    Cancelled,
    DeadlineExceeded,
    Lock,
    Reactor,
    both,
    outcome,
    within,
)


@pytest.fixture
def reactor():
    return Reactor()


def finish(reactor, *tasks):
    for _ in range(1000):
        if all(task.done for task in tasks):
            return
        reactor.turn()
    raise AssertionError("the tasks do not end")


def test_a_coroutine_gets_the_value_of_what_it_waits_for(reactor):
    future = reactor.future()

    async def double():
        return 2 * await future

    task = reactor.spawn(double())
    reactor.later(0.001, lambda: future.resolve(21))
    finish(reactor, task)
    assert task.result() == 42


def test_the_first_value_counts(reactor):
    future = reactor.future()
    future.resolve(1)
    future.resolve(2)
    future.fail(ValueError())
    assert future.result() == 1


def test_an_error_is_the_outcome_of_a_task(reactor):
    async def fail():
        raise KeyError("x")

    task = reactor.spawn(fail())
    finish(reactor, task)
    with pytest.raises(KeyError):
        task.result()


def test_a_cancelled_coroutine_may_clean_up_before_it_ends(reactor):
    seen = []

    async def work():
        try:
            await reactor.future()
        except Cancelled:
            await reactor.sleep(0.001)
            seen.append("clean")
            raise

    task = reactor.spawn(work())
    reactor.later(0.001, task.cancel)
    finish(reactor, task)
    assert seen == ["clean"]
    assert isinstance(task.error, Cancelled)


def test_cancelling_twice_does_not_disturb_the_clean_up(reactor):
    async def work():
        try:
            await reactor.future()
        except Cancelled:
            await reactor.sleep(0.01)
            return "clean"

    task = reactor.spawn(work())
    reactor.later(0.001, task.cancel)
    reactor.later(0.003, task.cancel)
    finish(reactor, task)
    assert task.result() == "clean"


def test_a_value_that_arrives_with_the_cancellation_is_not_delivered_twice(reactor):
    future = reactor.future()

    async def work():
        return await future

    task = reactor.spawn(work())
    reactor.turn()
    future.resolve("late")
    task.cancel()
    finish(reactor, task)
    assert isinstance(task.error, Cancelled)


def test_waiting_has_an_end(reactor):
    task = reactor.spawn(within(reactor, 0.001, reactor.future()))
    finish(reactor, task)
    assert isinstance(task.error, DeadlineExceeded)


def test_both_waits_for_both_before_it_raises(reactor):
    slow, failing = reactor.future(), reactor.future()
    failing.fail(ValueError())
    task = reactor.spawn(both(failing, slow))
    reactor.turn()
    assert not task.done
    reactor.later(0.001, slow.resolve)
    finish(reactor, task)
    assert isinstance(task.error, ValueError)


def test_outcome_returns_the_error(reactor):
    failing = reactor.future()
    failing.fail(ValueError())
    task = reactor.spawn(outcome(failing))
    finish(reactor, task)
    assert isinstance(task.result(), ValueError)


def test_the_lock_is_passed_on_in_order_of_arrival(reactor):
    lock, order = Lock(reactor), []

    async def work(name):
        async with lock:
            await reactor.sleep(0.001)
            order.append(name)

    tasks = [reactor.spawn(work(name)) for name in "abc"]
    finish(reactor, *tasks)
    assert order == ["a", "b", "c"]


def test_a_cancelled_waiter_does_not_keep_the_lock(reactor):
    lock, order = Lock(reactor), []

    async def work(name):
        async with lock:
            await reactor.sleep(0.005)
            order.append(name)

    tasks = [reactor.spawn(work(name)) for name in "abc"]
    reactor.later(0.001, tasks[1].cancel)
    finish(reactor, *tasks)
    assert order == ["a", "c"]


def test_a_handler_that_fails_does_not_end_the_loop(reactor, capsys):
    readable, writable = os.pipe()
    os.write(writable, b"x")

    def fail(_events):
        reactor.forget(readable)
        raise RuntimeError("boom")

    reactor.watch(readable, READABLE, fail)
    reactor.turn()
    assert "boom" in capsys.readouterr().err
    task = reactor.spawn(outcome(reactor.sleep(0)))
    finish(reactor, task)
    os.close(readable)
    os.close(writable)


def test_a_deadline_in_another_century_does_not_end_the_loop(reactor):
    reactor.later(1e10, lambda: None)
    read, write = os.pipe()
    os.write(write, b"x")
    seen = []
    reactor.watch(read, READABLE, seen.append)
    reactor.turn()
    assert seen
    os.close(read)
    os.close(write)
