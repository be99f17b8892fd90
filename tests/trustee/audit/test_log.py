"""The log remembers what was decided, for whom, and with which values."""

from __future__ import annotations

import datetime as dt

import pytest

from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.trustee.audit.allowance import Allowance
from enclave_cc.trustee.audit.log import AuditLog, Event
from enclave_cc.trustee.explanation import explain
from enclave_cc.trustee.stores.sqlite import SqliteStore


@pytest.fixture
def log(tmp_path):
    store = SqliteStore(tmp_path / "store.sqlite")
    yield AuditLog(store, lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    store.close()


def test_entries_have_time_place_values_and_a_digest(log):
    request_id = fresh_request_id()
    log.record(
        Event.REFUSAL, request_id, fields={"code": "x"}, findings=[equal("r", expected="a", actual="b")]
    )
    (entry,) = log.of_request(request_id)
    assert entry["event"] == "refusal"
    assert entry["time"] == "2026-01-01T00:00:00.000+00:00"
    assert entry["sequence"] == 1
    assert entry["fields"] == {"code": "x"}
    assert entry["findings"] == [{"rule": "r", "outcome": "failed", "expected": "a", "actual": "b"}]
    assert log.verify_chain() == (1, bytes.fromhex(entry["digest"]))


def test_requests_do_not_see_each_other(log):
    first, second = fresh_request_id(), fresh_request_id()
    log.record(Event.CHALLENGE, first)
    log.record(Event.RELEASE, second)
    assert [entry["event"] for entry in log.of_request(first)] == ["challenge"]
    assert len(log.listing()) == 2
    assert len(log.listing(after=1)) == 1


def test_texts_that_are_no_unicode_are_logged_all_the_same(log):
    request_id = fresh_request_id()
    log.record(
        Event.REFUSAL, request_id, fields={"detail": "\ud800"}, findings=[Finding("\ud800", Outcome.FAILED)]
    )
    assert log.of_request(request_id)[0]["fields"] == {"detail": "?"}
    log.verify_chain()


def test_an_explanation_tells_the_refusals_findings_from_their_context_and_gives_the_remedy(log):
    request_id = fresh_request_id()
    good, bad = equal("a", expected="1", actual="1"), equal("b", expected="1", actual="2", remedy="do this")
    log.record(Event.APPRAISAL, request_id, findings=[good, bad])
    log.record(Event.REFUSAL, request_id, fields={"code": "resource-denied"}, findings=[bad])
    explanation = explain(request_id, log.of_request(request_id))
    assert [item["rule"] for item in explanation["findings"]] == ["b"]
    assert [item["rule"] for item in explanation["context"]] == ["a"]
    assert explanation["remedy"] == "do this"


def test_a_refusal_without_findings_gets_the_remedy_of_its_code(log):
    request_id = fresh_request_id()
    log.record(Event.REFUSAL, request_id, fields={"code": "admin-denied"})
    assert "administrator" in explain(request_id, log.of_request(request_id))["remedy"]


def test_an_unknown_request_says_where_to_look_next(log):
    explanation = explain(fresh_request_id(), ())
    assert explanation["events"] == []
    assert "did not reach this broker" in explanation["remedy"]


def test_an_allowance_fills_again_slowly_and_no_further_than_its_brim():
    clock = [0.0]
    allowance = Allowance(lambda: clock[0], burst_bytes=1 << 20)
    entries = 0
    while allowance.take(1000):
        entries += 1
    assert entries == (1 << 20) // 1512
    clock[0] += 10
    assert [allowance.take(1000) for _ in range(8)] == [True] * 7 + [False]
    clock[0] += 1e9
    assert not allowance.take(1 << 20)
    assert allowance.take(1 << 19)
