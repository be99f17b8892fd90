"""Every rule of the verification fails alone in some test; nothing simulated passes in production."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.sgx_machine import IDENTITY, NOW, Machine

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.dcap import Collateral, IntelRoot, SimulatedRoot, TcbStatus, verify_quote
from enclave_cc.formats.sgx.quote import QuoteV3
from enclave_cc.formats.sgx.report import Attribute
from enclave_cc.platform.simulated.collateral import CollateralFaults
from enclave_cc.platform.simulated.pki import raw_signature

MACHINE = Machine()
QUOTE = MACHINE.quote()
COLLATERAL = MACHINE.collateral()


def code_of(quote=QUOTE, collateral=COLLATERAL, *, machine=MACHINE, now=NOW, root=None):
    with pytest.raises(RefusedError) as refusal:
        verify_quote(quote, collateral, root or machine.root, now)
    assert refusal.value.findings[-1].outcome is Outcome.FAILED
    assert all(finding.outcome is Outcome.PASSED for finding in refusal.value.findings[:-1])
    assert refusal.value.remedy
    return refusal.value.code


def with_text(machine, name, **changes):
    """Collateral with some members of a signed text changed, signed anew."""
    collateral = machine.collateral()
    document = json.loads(getattr(collateral, name)) | changes
    text = json.dumps(document, separators=(",", ":"))
    signature = raw_signature(machine.pki.tcb_signer.key, text.encode())
    return dataclasses.replace(collateral, **{name: text, f"{name}_signature": signature})


def with_qe_report(*, attestation_key=None, **changes):
    """A quote whose quoting enclave reports something else, signed by the platform's real PCK."""
    quote = QuoteV3.parse(QUOTE)
    report = dataclasses.replace(quote.qe_report, **changes)
    return dataclasses.replace(
        quote,
        attestation_key=attestation_key or quote.attestation_key,
        qe_report=report,
        qe_report_signature=raw_signature(MACHINE.pck_key, report.pack()),
    ).pack()


def test_the_default_simulated_platform_says_what_it_is():
    verdict = MACHINE.verify(QUOTE)
    assert verdict.simulated
    assert verdict.status is TcbStatus.SW_HARDENING_NEEDED
    assert verdict.advisory_ids == ("ECC-SIM-0001",)
    assert verdict.body.debug
    assert verdict.body.report_data == b"r" * 64
    assert verdict.earliest_expiration == NOW + dt.timedelta(days=30)
    assert all(finding.outcome is Outcome.PASSED for finding in verdict.findings)


def test_a_simulated_quote_is_refused_under_intels_root():
    assert code_of(root=IntelRoot()) == "quote-root-unknown"


def test_a_simulated_quote_is_refused_under_another_installations_root():
    assert code_of(root=Machine().root) == "quote-root-unknown"


def test_an_interoperable_simulated_quote_is_refused_under_intels_root():
    machine = Machine(interop=True)
    assert code_of(machine.quote(), machine.collateral(), root=IntelRoot()) == "quote-root-unknown"


def test_any_root_that_does_not_call_itself_simulated_is_refused():
    with pytest.raises(ValueError, match="simulated"):
        SimulatedRoot(b"no certificate")


def test_a_changed_body_is_refused():
    quote = QuoteV3.parse(QUOTE)
    changed = dataclasses.replace(quote, body=dataclasses.replace(quote.body, mr_enclave=bytes(32)))
    assert code_of(changed.pack()) == "quote-signature-refused"


def test_another_attestation_key_than_the_reported_one_is_refused():
    quote = QuoteV3.parse(QUOTE)
    changed = dataclasses.replace(quote, attestation_key=b"\1" * 64)
    assert code_of(changed.pack()) == "quote-qe-refused"


def test_an_attestation_key_off_the_curve_is_refused():
    quote = QuoteV3.parse(QUOTE)
    key = b"\1" * 64
    bound = hashlib.sha256(key + quote.qe_auth_data).digest() + bytes(32)
    assert code_of(with_qe_report(attestation_key=key, report_data=bound)) == "quote-signature-refused"


def test_a_quoting_enclave_report_with_more_report_data_is_refused():
    report_data = QuoteV3.parse(QUOTE).qe_report.report_data[:63] + b"\1"
    assert code_of(with_qe_report(report_data=report_data)) == "quote-qe-refused"


def test_a_debug_quoting_enclave_is_refused():
    flags = QuoteV3.parse(QUOTE).qe_report.flags | Attribute.DEBUG
    assert code_of(with_qe_report(flags=flags)) == "quote-qe-refused"


def test_a_debug_quoting_enclave_is_refused_even_if_its_identity_allows_it():
    flags = QuoteV3.parse(QUOTE).qe_report.flags | Attribute.DEBUG
    collateral = with_text(MACHINE, "qe_identity", attributesMask="00" * 16, attributes="00" * 16)
    assert code_of(with_qe_report(flags=flags), collateral) == "quote-qe-refused"


def test_a_quoting_enclave_older_than_every_level_is_refused():
    assert code_of(with_qe_report(isv_svn=0)) == "quote-tcb-unsupported"


def test_a_changed_quoting_enclave_report_is_refused():
    quote = QuoteV3.parse(QUOTE)
    changed = dataclasses.replace(quote, qe_report=dataclasses.replace(quote.qe_report, isv_svn=9))
    assert code_of(changed.pack()) == "quote-qe-refused"


def test_a_quote_without_a_pck_chain_is_refused():
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_type=3)
    assert code_of(quote.pack()) == "quote-malformed"


def test_a_quote_whose_chain_is_no_pem_is_refused():
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_data=b"\xff\xfe")
    assert code_of(quote.pack()) == "quote-certificate-refused"


def test_a_chain_of_two_is_refused():
    pem = f"{MACHINE.pki.ca.pem}{MACHINE.pki.root.pem}".encode()
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_data=pem)
    assert code_of(quote.pack()) == "quote-certificate-refused"


def test_a_tcb_signer_cannot_stand_in_for_a_pck():
    pki = MACHINE.pki
    pem = f"{pki.tcb_signer.pem}{pki.ca.pem}{pki.root.pem}".encode()
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_data=pem)
    assert code_of(quote.pack()) == "quote-certificate-refused"


def test_a_ca_cannot_sign_tcb_information():
    pki = MACHINE.pki
    signature = raw_signature(pki.ca.key, COLLATERAL.tcb_info.encode())
    chain = pki.ca.pem + pki.root.pem
    changed = dataclasses.replace(COLLATERAL, tcb_info_signature=signature, tcb_info_issuer_chain=chain)
    assert code_of(collateral=changed) == "quote-certificate-refused"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_signed_text_with_a_foreign_signature_is_refused(name):
    signature = getattr(Machine().collateral(), f"{name}_signature")
    changed = dataclasses.replace(COLLATERAL, **{f"{name}_signature": signature})
    assert code_of(collateral=changed) == "quote-collateral-refused"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_a_foreign_revocation_list_is_refused(name):
    changed = dataclasses.replace(COLLATERAL, **{name: getattr(Machine().collateral(), name)})
    assert code_of(collateral=changed) == "quote-crl-refused"


def test_swapped_revocation_lists_are_refused():
    changed = dataclasses.replace(COLLATERAL, pck_crl=COLLATERAL.root_ca_crl)
    assert code_of(collateral=changed) == "quote-crl-refused"


@pytest.mark.parametrize("role", ["root", "ca", "tcb_signer"])
def test_a_certificate_revoked_by_the_root_is_refused(role):
    serial = getattr(MACHINE.pki, role).certificate.serial_number
    collateral = MACHINE.collateral(CollateralFaults(revoked_by_root=(serial,)))
    assert code_of(collateral=collateral) == "quote-revoked"


def test_a_revoked_pck_is_refused():
    pem = QuoteV3.parse(QUOTE).certification_data.rstrip(b"\0").decode()
    serial = MACHINE.root.chain(pem)[0].serial
    assert (
        code_of(collateral=MACHINE.collateral(CollateralFaults(revoked_by_ca=(serial,)))) == "quote-revoked"
    )


@pytest.mark.parametrize("days", [-40, -2, 31, 8000])
def test_a_time_outside_of_the_collaterals_validity_is_refused(days):
    assert code_of(now=NOW + dt.timedelta(days=days)) == "quote-collateral-expired"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize(
    "dates",
    [
        {"issueDate": "2026-11-24T00:00:00Z"},
        {"nextUpdate": "2026-11-22T00:00:00Z"},
    ],
)
def test_a_signed_text_that_is_not_current_is_refused(name, dates):
    assert code_of(collateral=with_text(MACHINE, name, **dates)) == "quote-collateral-expired"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fmspc": "00906ED50000"}, "quote-collateral-mismatch"),
        ({"pceId": "0001"}, "quote-collateral-mismatch"),
        ({"version": 2}, "quote-collateral-refused"),
        ({"version": 4}, "quote-collateral-refused"),
        ({"id": "TDX"}, "quote-collateral-refused"),
        ({"tcbType": 1}, "quote-collateral-refused"),
        ({"tdxModule": {"mrsigner": ""}}, "quote-collateral-refused"),
        ({"tcbLevels": []}, "quote-collateral-refused"),
        ({"issueDate": "2026-11-23"}, "quote-collateral-refused"),
        ({"issueDate": "2026-11-23T00:00:00+00:00"}, "quote-collateral-refused"),
        ({"tcbEvaluationDataNumber": "1"}, "quote-collateral-refused"),
    ],
)
def test_tcb_information_for_something_else_is_refused(change, code):
    assert code_of(collateral=with_text(MACHINE, "tcb_info", **change)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "QVE"}, "quote-collateral-refused"),
        ({"id": "TD_QE"}, "quote-collateral-refused"),
        ({"version": 1}, "quote-collateral-refused"),
        ({"mrsigner": "00" * 32}, "quote-qe-refused"),
        ({"isvprodid": 2}, "quote-qe-refused"),
        ({"miscselect": "00000001"}, "quote-qe-refused"),
        ({"attributes": "01" + "00" * 15}, "quote-qe-refused"),
        ({"attributes": "15" + "00" * 15}, "quote-qe-refused"),
    ],
)
def test_another_quoting_enclave_is_refused(change, code):
    assert code_of(collateral=with_text(MACHINE, "qe_identity", **change)) == code


def test_a_duplicate_level_is_refused():
    levels = json.loads(COLLATERAL.tcb_info)["tcbLevels"]
    changed = with_text(MACHINE, "tcb_info", tcbLevels=levels + levels)
    assert code_of(collateral=changed) == "quote-collateral-refused"


def test_a_duplicate_json_member_is_refused():
    text = COLLATERAL.tcb_info[:-1] + ',"id":"SGX"}'
    signature = raw_signature(MACHINE.pki.tcb_signer.key, text.encode())
    changed = dataclasses.replace(COLLATERAL, tcb_info=text, tcb_info_signature=signature)
    assert code_of(collateral=changed) == "quote-collateral-refused"


@pytest.mark.parametrize("status", list(TcbStatus))
@pytest.mark.parametrize("qe_status", list(TcbStatus))
def test_platform_and_quoting_enclave_status_converge_as_intel_says(status, qe_status):
    collateral = MACHINE.collateral(CollateralFaults(status=status, qe_status=qe_status))
    if TcbStatus.REVOKED in (status, qe_status):
        assert code_of(collateral=collateral) == "quote-tcb-revoked"
        return
    expected = status
    if qe_status is not TcbStatus.UP_TO_DATE:
        if status in (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED):
            expected = TcbStatus.OUT_OF_DATE
        elif status in (
            TcbStatus.CONFIGURATION_NEEDED,
            TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        ):
            expected = TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    verdict = MACHINE.verify(QUOTE, collateral)
    assert (verdict.status, verdict.platform_status, verdict.qe_status) == (expected, status, qe_status)


def test_a_platform_below_every_level_is_refused():
    collateral = MACHINE.collateral(CollateralFaults(level=bytes([1] * 15 + [2])))
    assert code_of(collateral=collateral) == "quote-tcb-unsupported"


def test_an_advisory_beside_up_to_date_is_no_contradiction():
    faults = CollateralFaults(status=TcbStatus.UP_TO_DATE, advisory_ids=("INTEL-SA-00001",))
    verdict = MACHINE.verify(QUOTE, MACHINE.collateral(faults))
    assert (verdict.status, verdict.advisory_ids) == (TcbStatus.UP_TO_DATE, ("INTEL-SA-00001",))


def test_collateral_survives_the_round_trip():
    assert Collateral.from_json(COLLATERAL.to_json()) == COLLATERAL


def test_collateral_has_the_field_names_of_dcap_qvl():
    theirs = dcap_qvl.QuoteCollateralV3.from_json(COLLATERAL.to_json().decode())
    assert Collateral.from_json(theirs.to_json()) == COLLATERAL


def test_what_was_checked_before_does_not_help_other_bytes():
    root = SimulatedRoot(MACHINE.pki.root.der)
    verify_quote(QUOTE, COLLATERAL, root, NOW)
    changed = dataclasses.replace(COLLATERAL, tcb_info_signature=bytes(64))
    assert code_of(collateral=changed, root=root) == "quote-collateral-refused"
    assert code_of(now=NOW + dt.timedelta(days=31), root=root) == "quote-collateral-expired"


def test_dcap_qvl_accepts_an_interoperable_quote_given_the_simulated_root():
    machine = Machine(interop=True)
    quote = machine.quote(dataclasses.replace(IDENTITY, flags=Attribute.INIT | Attribute.MODE64))
    theirs = dcap_qvl.QuoteCollateralV3.from_json(machine.collateral().to_json().decode())
    report = dcap_qvl.verify_with_root_ca(quote, theirs, machine.pki.root.der, int(NOW.timestamp()))
    assert report.status == "UpToDate" == machine.verify(quote).status


def test_dcap_qvl_refuses_every_simulated_quote_under_its_own_root():
    for interop, flags in ((False, IDENTITY.flags), (True, Attribute.INIT | Attribute.MODE64)):
        machine = Machine(interop=interop)
        quote = machine.quote(dataclasses.replace(IDENTITY, flags=flags))
        theirs = dcap_qvl.QuoteCollateralV3.from_json(machine.collateral().to_json().decode())
        with pytest.raises(ValueError, match=r"."):
            dcap_qvl.verify(quote, theirs, int(NOW.timestamp()))


def test_dcap_qvl_refuses_the_default_quote_because_it_says_debug():
    theirs = dcap_qvl.QuoteCollateralV3.from_json(COLLATERAL.to_json().decode())
    with pytest.raises(ValueError, match=r"[Dd]ebug"):
        dcap_qvl.verify_with_root_ca(QUOTE, theirs, MACHINE.pki.root.der, int(NOW.timestamp()))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=6000))
def test_any_bytes_as_a_quote_are_refused_with_the_declared_error(data):
    with pytest.raises(RefusedError):
        verify_quote(data, COLLATERAL, MACHINE.root, NOW)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(QUOTE) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_quote_changes_what_it_says(offset, flip):
    data = bytearray(QUOTE)
    data[offset] ^= flip
    try:
        verdict = verify_quote(bytes(data), COLLATERAL, MACHINE.root, NOW)
    except RefusedError:
        return
    # Only PEM text outside of the base64 and the padding may differ.
    assert verdict.body == QuoteV3.parse(QUOTE).body
    assert offset > 1046


FIELDS = [field.name for field in dataclasses.fields(Collateral)]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), st.integers(0, 100_000), st.integers(1, 255))
def test_any_changed_byte_of_collateral_is_refused_or_harmless(name, offset, flip):
    value = getattr(COLLATERAL, name)
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[offset % len(data)] ^= flip
    changed = bytes(data) if isinstance(value, bytes) else data.decode("latin-1")
    collateral = dataclasses.replace(COLLATERAL, **{name: changed})
    try:
        status = verify_quote(QUOTE, collateral, MACHINE.root, NOW).status
    except RefusedError:
        return
    assert status is TcbStatus.SW_HARDENING_NEEDED
