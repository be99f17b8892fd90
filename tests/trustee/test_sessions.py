"""Sessions are bounded, expire, and are good for one attempt."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from enclave_cc.trustee.appraisal.appraiser import Appraisal
from enclave_cc.trustee.appraisal.evidence import Tee
from enclave_cc.trustee.broker.sessions import LIFETIME, SessionTable

APPRAISAL = Appraisal("token", Tee.SGX, "affirming", ())


@pytest.fixture
def clock():
    return [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]


@pytest.fixture
def table(clock):
    return SessionTable(lambda: clock[0], capacity=3)


def test_a_session_is_taken_once(table):
    session = table.open(Tee.SGX)
    assert table.find(session.session_id) == session
    assert table.take(session.session_id) == session
    assert table.take(session.session_id) is None


def test_a_session_expires(table, clock):
    session = table.open(Tee.SGX)
    clock[0] += LIFETIME
    assert table.find(session.session_id) is None
    assert table.take(session.session_id) is None


def test_strangers_do_not_push_out_attested_sessions(table):
    attested = replace(table.open(Tee.SGX), appraisal=APPRAISAL)
    table.keep(attested)
    for _ in range(10):
        last = table.open(Tee.SGX)
    assert table.find(attested.session_id) == attested
    assert table.find(last.session_id) == last
    assert len(table._sessions) == 3


def test_expired_sessions_make_room_first(table, clock):
    for _ in range(3):
        table.keep(replace(table.open(Tee.SGX), appraisal=APPRAISAL))
    clock[0] += LIFETIME
    table.open(Tee.SGX)
    assert len(table._sessions) == 1


def test_long_tokens_do_not_add_up_without_end(clock):
    table = SessionTable(lambda: clock[0], token_capacity=1000)
    waiting = table.open(Tee.SGX)
    kept = [replace(table.open(Tee.SGX), appraisal=replace(APPRAISAL, token="x" * 100)) for _ in range(25)]
    for session in kept:
        table.keep(session)
        assert sum(item.token_chars for item in table._sessions.values()) <= 1000
    assert table.find(kept[-1].session_id) == kept[-1]
    assert table.find(waiting.session_id) == waiting
