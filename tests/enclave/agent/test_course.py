"""A cancellation reaches those who wait, before, while and after they do."""

from __future__ import annotations

import threading

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.enclave.agent.course import Cancellation


def test_whoever_waits_is_woken_once():
    cancellation, woken = Cancellation(), []
    with cancellation.waking(lambda: woken.append("inner")):
        cancellation.cancel()
    assert woken == ["inner"]
    assert cancellation.is_set()
    assert cancellation.wait(0)


def test_whoever_waited_earlier_is_left_alone():
    cancellation, woken = Cancellation(), []
    with cancellation.waking(lambda: woken.append("gone")):
        pass
    cancellation.cancel()
    assert woken == []


def test_work_that_comes_after_the_cancellation_does_not_begin():
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(UnavailableError) as caught, cancellation.waking(lambda: None):
        pytest.fail("began")
    assert caught.value.code == "cancelled"


def test_waiting_ends_with_the_cancellation():
    cancellation = Cancellation()
    threading.Timer(0.05, cancellation.cancel).start()
    assert cancellation.wait(10)
