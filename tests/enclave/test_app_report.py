"""What an app enclave may tell its agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.app_report import LaunchReport, Violation, parse_report
from enclave_cc.enclave.resolved_user import ResolvedUser

FINDING = Finding("rootfs.chunk", Outcome.FAILED, "a", "b")


def test_a_launch_round_trips():
    report = LaunchReport(ResolvedUser(1, 2, (3, 4)))
    assert parse_report(report.to_bytes()) == report


def test_a_violation_round_trips():
    report = Violation("sealed-chunk-refused", Stage.MOUNT, "changed", (FINDING,))
    assert parse_report(report.to_bytes()) == report


def test_an_error_without_findings_is_told_with_its_detail():
    told = Violation.of(RefusedError("code", "summary", stage=Stage.MOUNT, detail="the reason"))
    assert [finding.actual for finding in told.findings] == ["the reason"]


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"event":"other"}',
        b'{"event":"launched","user":{"uid":"0","gid":0}}',
        b'{"event":"launched","user":{"uid":0,"gid":0,"additionalGids":["x"]}}',
        b'{"event":"launched","user":{"uid":0,"gid":0},"more":1}',
        b'{"event":"violation","code":"c","stage":"nowhere","summary":"s","findings":[]}',
        b'{"event":"violation","code":"c","stage":"mount","summary":"s","findings":[{}]}',
        b'{"event":"violation","code":"%s","stage":"mount","summary":"s"}' % (b"c" * 300),
    ],
)
def test_malformed_reports_are_refused(data):
    with pytest.raises(InvalidInputError) as caught:
        parse_report(data)
    assert caught.value.code == "app-report-invalid"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    with pytest.raises(InvalidInputError):
        parse_report(data)
