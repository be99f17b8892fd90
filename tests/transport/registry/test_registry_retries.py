"""Retries, deadlines, cancellation, and ranges that do not fit."""

import os
import threading
import time
from email.utils import formatdate

import pytest
from tests.simulators.clock import FakeClock
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry.client import RegistryClient


@pytest.fixture
def simulator():
    with running_registry() as running:
        running.add_manifest("team/app", "1", b"{}")
        yield running


@pytest.fixture
def reference(simulator):
    return Reference.parse(f"{simulator.host}/team/app:1")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def open_client(simulator, clock):
    clients = []

    def client(patience=None, **options):
        patience = patience or Patience(clock.never(), sleep=clock.sleep)
        made = RegistryClient(insecure_http=[simulator.host], patience=patience, **options)
        clients.append(made)
        return made

    yield client
    for client in clients:
        client.close()


def test_pauses_grow_and_differ(open_client, simulator, reference, clock):
    simulator.statuses = [503] * 4
    assert open_client().manifest(reference, digest_or_tag="1").body == b"{}"
    assert len(clock.slept) == 4
    assert all(0.1 * 2**n <= pause <= 0.2 * 2**n for n, pause in enumerate(clock.slept))


@pytest.mark.parametrize("wish", ["7", pytest.param(None, id="date")])
def test_a_registry_that_says_when_to_come_back_is_heard(open_client, simulator, reference, clock, wish):
    simulator.statuses = [(429, {"Retry-After": wish or formatdate(time.time() + 30, usegmt=True)})]
    open_client().manifest(reference, digest_or_tag="1")
    assert clock.slept[0] == pytest.approx(7 if wish else 30, abs=2)


@pytest.mark.parametrize("wish", ["soon", "-1", "1e3", "", "Fri, 99 Xxx"])
def test_a_wish_that_makes_no_sense_is_no_wish(open_client, simulator, reference, clock, wish):
    simulator.statuses = [(503, {"Retry-After": wish})]
    open_client().manifest(reference, digest_or_tag="1")
    assert clock.slept[0] <= 0.2


@pytest.mark.parametrize("wish", ["121", "999999999999"])
def test_nobody_waits_longer_than_two_minutes_at_a_registrys_wish(
    open_client, simulator, reference, clock, wish
):
    simulator.statuses = [(503, {"Retry-After": wish})]
    with pytest.raises(UnavailableError) as caught:
        open_client().manifest(reference, digest_or_tag="1")
    assert wish in caught.value.detail
    assert clock.slept == []


def test_a_wish_beyond_the_deadline_fails_at_once(open_client, simulator, reference, clock):
    simulator.statuses = [(503, {"Retry-After": "60"})]
    patience = Patience(clock.after(30), sleep=clock.sleep)
    with pytest.raises(UnavailableError) as caught:
        open_client(patience).manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-unavailable"
    assert clock.slept == []


def test_nothing_is_sent_after_the_deadline(open_client, simulator, reference, clock):
    patience = Patience(clock.after(30), sleep=clock.sleep)
    clock.now = 31
    with pytest.raises(UnavailableError) as caught:
        open_client(patience).manifest(reference, digest_or_tag="1")
    assert caught.value.code == "deadline-exceeded"
    assert simulator.requests == []


def test_a_blob_stops_at_the_deadline_of_the_whole_and_at_its_own(open_client, simulator, reference, clock):
    digest = simulator.add_blob(bytes(5_000_000))
    for options in ({"patience": Patience(clock.after(30), sleep=clock.sleep)}, {"blob_deadline_s": 30}):
        chunks = open_client(**options).blob(reference, digest)
        next(chunks)
        clock.now += 31
        with pytest.raises(UnavailableError) as caught:
            list(chunks)
        assert caught.value.code == "deadline-exceeded"


def test_a_cancelled_blob_ends_at_the_next_chunk(open_client, simulator, reference, clock):
    digest, cancelled = simulator.add_blob(bytes(5_000_000)), threading.Event()
    chunks = open_client(Patience(clock.never(), cancelled)).blob(reference, digest)
    next(chunks)
    cancelled.set()
    with pytest.raises(UnavailableError) as caught:
        list(chunks)
    assert caught.value.code == "cancelled"


@pytest.mark.parametrize("code", ["cancelled", "deadline-exceeded"])
def test_a_registry_that_falls_silent_in_the_middle_holds_nobody_up(open_client, simulator, reference, code):
    digest, cancelled = simulator.add_blob(bytes(5_000_000)), threading.Event()
    simulator.stalls_after = 1_000_000
    patience = Patience(cancelled=cancelled)
    timer = threading.Timer(0.2, cancelled.set)
    if code == "cancelled":
        timer.start()
    else:
        patience = patience.at_most(0.5)
    before, start = set(threading.enumerate()), time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        list(open_client(patience, deadline_s=60).blob(reference, digest))
    assert caught.value.code == code
    assert time.monotonic() - start < 10
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "watchdog"]
    if code == "cancelled":
        timer.join()


def test_cancellation_ends_a_pause(open_client, simulator, reference):
    simulator.statuses = [(503, {"Retry-After": "60"})]
    cancelled = threading.Event()
    timer = threading.Timer(0.1, cancelled.set)
    timer.start()
    start = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        open_client(Patience(cancelled=cancelled)).manifest(reference, digest_or_tag="1")
    assert caught.value.code == "cancelled"
    assert time.monotonic() - start < 10
    timer.join()


def test_progress_starts_the_count_of_failures_again(open_client, simulator, reference):
    data = os.urandom(2_000_000)
    digest = simulator.add_blob(data)
    simulator.breaks = [150_000] * 10
    assert b"".join(open_client().blob(reference, digest)) == data


@pytest.mark.parametrize("told", ["bytes 0-9/10", "bytes 5-9/10", "bytes */10", "nonsense", ""])
def test_a_part_that_does_not_fit_is_not_used(open_client, simulator, reference, told):
    digest = simulator.add_blob(b"0123456789")
    simulator.content_range = told
    assert b"".join(open_client().blob(reference, digest, offset=4)) == b"456789"
    assert "Range" not in simulator.requests[-1][2]


def test_a_blob_whose_end_was_reached_is_at_its_end(open_client, simulator, reference):
    digest = simulator.add_blob(b"0123456789")
    assert b"".join(open_client().blob(reference, digest, offset=10)) == b""
    assert len(simulator.requests) == 1


def test_a_blob_shorter_than_what_came_already_is_asked_for_whole(open_client, simulator, reference):
    digest = simulator.add_blob(b"0123456789")
    assert b"".join(open_client().blob(reference, digest, offset=11)) == b""
    assert [request[2].get("Range") for request in simulator.requests] == ["bytes=11-", None]


def test_a_registry_that_answers_ranges_to_whole_requests_is_refused(open_client, simulator, reference):
    digest = simulator.add_blob(b"0123456789")
    simulator.statuses = [(206, {"Content-Range": "bytes 0-0/10"})]
    with pytest.raises(InvalidInputError) as caught:
        list(open_client().blob(reference, digest))
    assert caught.value.code == "registry-response-invalid"
