"""The host's log has codes, the owner gets values, and a deaf broker changes nothing."""

from __future__ import annotations

import io
import json
import threading

import pytest

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.agent import reporting
from enclave_cc.enclave.agent.event_log import EventLog
from enclave_cc.enclave.agent.reporting import Reporter

FAILED = Finding("rule", Outcome.FAILED, "expected-value", "actual-value")
PASSED = Finding("other", Outcome.PASSED, "a", "a")


class Session:
    def fresh_token(self):
        return ""

    def __init__(self, error=None):
        self.error = error
        self.reports = []
        self.closed = False

    def get(self, uri):
        raise AssertionError

    def report(self, error, findings):
        if self.error is not None:
            raise self.error
        self.reports.append((error.code, list(findings)))

    def close(self):
        self.closed = True


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def opened():
    return []


@pytest.fixture
def reporter(stream, opened):
    def open_session(_request_id):
        opened.append(Session())
        return opened[-1]

    return Reporter(open_session, EventLog(stream, clock=lambda: 1.5))


def error(*findings, stage=Stage.VERIFY, detail=""):
    return RefusedError("some-code", "what failed", stage=stage, detail=detail, findings=findings)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_hosts_log_has_no_values(reporter, stream):
    reporter.refused("R", error(FAILED, detail="secret-detail"), Session())
    assert lines(stream) == [
        {"event": "refused", "request": "R", "code": "some-code", "stage": "verify", "unix_ms": 1500}
    ]


def test_the_owner_gets_all_findings_the_failed_ones_first(reporter):
    session = Session()
    reporter.refused("R", error(PASSED, FAILED), session)
    assert session.reports == [("some-code", [FAILED, PASSED])]


def test_a_refusal_without_findings_still_says_why(reporter):
    session = Session()
    reporter.refused("R", error(detail="the reason"), session)
    ((_, (finding,)),) = session.reports
    assert (finding.rule, finding.outcome, finding.actual) == ("some-code", Outcome.FAILED, "the reason")


def test_without_a_session_one_is_opened_and_closed(reporter, opened):
    reporter.refused("R", error(FAILED))
    assert opened[0].reports == [("some-code", [FAILED])]
    assert opened[0].closed


def test_what_the_broker_itself_refused_is_not_told_to_it_again(reporter, opened):
    reporter.refused("R", error(FAILED, stage=Stage.ATTEST))
    assert opened == []


def test_a_broker_that_cannot_be_reached_costs_the_values_not_the_refusal(reporter, stream):
    reporter.refused(
        "R", error(FAILED), Session(UnavailableError("broker-unavailable", "x", stage=Stage.BROKER))
    )
    assert [line["event"] for line in lines(stream)] == ["refused", "report-undelivered"]
    assert "actual-value" not in stream.getvalue()


def test_a_host_that_provokes_refusals_does_not_make_the_agent_attest_for_ever(
    reporter, opened, stream, monkeypatch
):
    monkeypatch.setattr(reporting, "MAX_SESSIONS_FOR_REPORTS", 3)
    for _ in range(10):
        reporter.refused("R", error(FAILED))
    assert len(opened) == 3
    assert [line["event"] for line in lines(stream)[-2:]] == ["refused", "report-undelivered"]


def test_many_findings_are_cut_but_the_failed_ones_stay(reporter):
    session = Session()
    reporter.refused("R", error(*[PASSED] * 500, FAILED), session)
    ((_, findings),) = session.reports
    assert findings[0] == FAILED
    assert len(findings) == reporting.MAX_FINDINGS


def test_a_log_whose_reader_went_away_is_no_failure(stream):
    stream.close()
    EventLog(stream, clock=lambda: 0.0).event("x")


def test_a_broker_that_does_not_answer_does_not_hold_the_refusal_up(stream, monkeypatch):
    monkeypatch.setattr(reporting, "PATIENCE_S", 0.05)
    answered = threading.Event()

    def open_session(_request_id):
        assert answered.wait(10)
        return Session()

    Reporter(open_session, EventLog(stream, clock=lambda: 0.0)).refused("R", error(FAILED))
    assert not answered.is_set()
    answered.set()


def test_what_a_hostile_image_makes_us_quote_still_fits_the_owners_log(reporter):
    session = Session()
    long = Finding("rule", Outcome.FAILED, "\U0001f600" * 5000, "\U0001f600" * 5000)
    reporter.refused("R", error(*[PASSED] * 200, *[long] * 200, detail="\U0001f600" * (1 << 20)), session)
    ((_, findings),) = session.reports
    message = json.dumps([finding.to_json() for finding in findings])
    assert findings[0] == long
    assert len(findings) < reporting.MAX_FINDINGS
    assert len(message) < 1 << 19
