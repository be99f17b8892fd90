"""REPORT, TARGETINFO and KEYREQUEST layouts."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.sgx import (
    InvalidStructureError,
    KeyRequest,
    Report,
    ReportBody,
    TargetInfo,
    verify_report,
)
from enclave_cc.formats.sgx.keys import KeyName
from enclave_cc.formats.sgx.report import report_mac


def exactly(length):
    return st.binary(min_size=length, max_size=length)


bodies = st.builds(
    ReportBody,
    cpu_svn=exactly(16),
    misc_select=st.integers(0, 2**32 - 1),
    isv_ext_prod_id=exactly(16),
    flags=st.integers(0, 2**64 - 1),
    xfrm=st.integers(0, 2**64 - 1),
    mr_enclave=exactly(32),
    mr_signer=exactly(32),
    config_id=exactly(64),
    isv_prod_id=st.integers(0, 2**16 - 1),
    isv_svn=st.integers(0, 2**16 - 1),
    config_svn=st.integers(0, 2**16 - 1),
    isv_family_id=exactly(16),
    report_data=exactly(64),
)


@given(bodies)
def test_report_bodies_survive_the_round_trip(body):
    assert ReportBody.parse(body.pack()) == body


@given(bodies, exactly(32), exactly(16))
def test_reports_survive_the_round_trip(body, key_id, mac):
    report = Report(body, key_id, mac)
    assert Report.parse(report.pack()) == report


@given(bodies)
def test_target_infos_survive_the_round_trip(body):
    target = TargetInfo.of(body)
    assert TargetInfo.parse(target.pack()) == target


@given(st.sampled_from(KeyName), exactly(16), exactly(32), st.integers(0, 2**16 - 1))
def test_key_requests_survive_the_round_trip(name, cpu_svn, key_id, svn):
    request = KeyRequest(name, 1, svn, cpu_svn, key_id=key_id)
    assert KeyRequest.parse(request.pack()) == request


@pytest.mark.parametrize(
    ("structure", "size"), [(ReportBody, 384), (Report, 432), (TargetInfo, 512), (KeyRequest, 512)]
)
@given(data=st.data())
def test_any_bytes_parse_or_raise_the_declared_error(structure, size, data):
    raw = data.draw(st.binary(max_size=600) | exactly(size))
    with contextlib.suppress(InvalidStructureError):
        assert structure.parse(raw).pack() == raw


@pytest.mark.parametrize("offset", [20, 31, 96, 127, 160, 191, 262, 303])
def test_reserved_bytes_of_a_body_in_use_are_refused(offset):
    raw = bytearray(ReportBody().pack())
    raw[offset] = 1
    with pytest.raises(InvalidStructureError, match="reserved"):
        ReportBody.parse(bytes(raw))


@pytest.mark.parametrize("offset", [48, 49, 56, 63, 128, 511])
def test_reserved_bytes_of_a_target_in_use_are_refused(offset):
    raw = bytearray(TargetInfo.of(ReportBody()).pack())
    raw[offset] = 1
    with pytest.raises(InvalidStructureError, match="reserved"):
        TargetInfo.parse(bytes(raw))


def test_fields_lie_where_the_sdk_puts_them():
    raw = ReportBody(
        mr_enclave=b"E" * 32,
        mr_signer=b"S" * 32,
        config_id=b"C" * 64,
        isv_prod_id=0x1234,
        report_data=b"R" * 64,
    ).pack()
    assert (raw[64:96], raw[128:160], raw[192:256]) == (b"E" * 32, b"S" * 32, b"C" * 64)
    assert (raw[256:258], raw[320:384]) == (b"\x34\x12", b"R" * 64)


def test_a_short_field_is_refused_instead_of_padded():
    with pytest.raises(InvalidStructureError, match="mr_enclave"):
        ReportBody(mr_enclave=b"short")


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises(InvalidStructureError):
        ReportBody(isv_svn=1 << 16).pack()


@pytest.mark.parametrize(("offset", "value"), [(0, 9), (2, 0x40), (6, 1), (511, 1)])
def test_unknown_key_names_policies_and_reserved_bytes_are_refused(offset, value):
    raw = bytearray(KeyRequest(KeyName.SEAL).pack())
    raw[offset] = value
    with pytest.raises(InvalidStructureError):
        KeyRequest.parse(bytes(raw))


def test_a_report_verifies_under_its_key_only():
    report = Report(ReportBody(), bytes(32), report_mac(ReportBody(), b"k" * 16))
    verify_report(report, b"k" * 16)
    with pytest.raises(InvalidStructureError, match="MAC"):
        verify_report(report, b"x" * 16)


@given(bodies)
def test_a_changed_body_does_not_verify(body):
    report = Report(ReportBody(), bytes(32), report_mac(ReportBody(), b"k" * 16))
    if body != report.body:
        with pytest.raises(InvalidStructureError, match="MAC"):
            verify_report(dataclasses.replace(report, body=body), b"k" * 16)
