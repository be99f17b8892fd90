"""One allowance for all layers: waited for, given back, and nobody left behind."""

from __future__ import annotations

import threading

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.image.layers.spool import Spool


def test_what_could_never_fit_reserves_nothing():
    spool = Spool(100)
    with spool.reserve(101) as reservation:
        assert reservation.size_bytes == 0
    assert spool.reserve(100).size_bytes == 100


def test_a_reservation_waits_until_others_gave_back():
    spool = Spool(100)
    first = spool.reserve(60)
    got = threading.Event()
    waiting = threading.Thread(target=lambda: (spool.reserve(60), got.set()))
    waiting.start()
    assert not got.wait(0.05)
    first.release(10)
    assert not got.wait(0.05)
    first.release(10)
    assert got.wait(10)
    waiting.join(10)


def test_the_rest_is_given_back_at_the_end_and_only_once():
    spool = Spool(100)
    with spool.reserve(100) as reservation:
        reservation.release(70)
        reservation.release(70)
    assert spool.reserve(100).size_bytes == 100


def test_closing_ends_the_waiting():
    spool = Spool(100)
    spool.reserve(100)
    threading.Timer(0.05, spool.close).start()
    with pytest.raises(UnavailableError) as caught:
        spool.reserve(1)
    assert caught.value.code == "cancelled"
