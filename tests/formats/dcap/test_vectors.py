"""Verdicts of other people's verifiers on real and simulated quotes, compared with ours."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from enclave_cc.core.errors import RefusedError
from enclave_cc.formats.dcap import (
    Collateral,
    IntelRoot,
    InvalidCollateralError,
    SimulatedRoot,
    verify_quote,
)
from enclave_cc.formats.dcap.certificates import CertificateError, split_chain
from enclave_cc.formats.dcap.qe_identity import QeIdentity
from enclave_cc.formats.dcap.tcb_info import TcbInfo

_INTEL = "intel_qvl_via_sgx-dcap-quote-verify-python_0_0_3"
_INTEL_STATUS = {
    "STATUS_TCB_OUT_OF_DATE": "OutOfDate",
    "STATUS_TCB_SW_HARDENING_NEEDED": "SWHardeningNeeded",
    "STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED": "ConfigurationAndSWHardeningNeeded",
    "STATUS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED": "OutOfDateConfigurationNeeded",
}


def moment(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@pytest.fixture
def sgx(vectors):
    return vectors / "sgx"


def genuine(sgx):
    for case in json.loads((sgx / "README.json").read_text())["genuine"]:
        quote = (sgx / case["quote"]).read_bytes()
        yield case, quote, Collateral.from_json((sgx / case["collateral"]).read_bytes())


def simulated(sgx):
    for file in sorted((sgx / "sim").iterdir()):
        case = json.loads(file.read_text())
        yield case, bytes.fromhex(case["quote"]), Collateral.from_json(json.dumps(case["collateral"]))


def test_every_genuine_quote_has_the_status_that_intels_library_gives(sgx):
    root = IntelRoot()
    count = 0
    for case, quote, collateral in genuine(sgx):
        verdict = verify_quote(quote, collateral, root, moment(case["now"]))
        assert verdict.status == _INTEL_STATUS[case["expected"][_INTEL]["quote"]], case["name"]
        assert verdict.body.mr_enclave.hex() == case["mr_enclave"]
        assert verdict.pck.fmspc.hex().upper() == case["fmspc"]
        assert verdict.tcb_eval_num <= case["tcb_eval_data_number"]
        assert not verdict.simulated
        count += 1
    assert count >= 20


def test_every_genuine_quote_has_the_advisories_that_dcap_qvl_lists(sgx):
    for case, quote, collateral in genuine(sgx):
        expected = case["expected"]["dcap_qvl_0_7_0"]
        if "advisory_ids" in expected:
            verdict = verify_quote(quote, collateral, IntelRoot(), moment(case["now"]))
            assert list(verdict.advisory_ids) == expected["advisory_ids"], case["name"]


def test_genuine_quotes_are_refused_after_their_collateral_expired(sgx):
    for case, quote, collateral in genuine(sgx):
        after = dt.datetime.fromisoformat(case["valid_to"]) + dt.timedelta(seconds=1)
        with pytest.raises(RefusedError) as refusal:
            verify_quote(quote, collateral, IntelRoot(), after)
        assert refusal.value.code == "quote-collateral-expired"


def test_every_simulated_case_ends_as_its_author_says(sgx):
    outcomes = {}
    for case, quote, collateral in simulated(sgx):
        root = SimulatedRoot(bytes.fromhex(case["root_der"]))
        try:
            outcomes[case["name"]] = str(verify_quote(quote, collateral, root, moment(case["now"])).status)
        except RefusedError as refusal:
            outcomes[case["name"]] = "X" if refusal.code.startswith("quote-") and refusal.findings else "?"
    expected = {case["name"]: case["expected"]["prototype"].split()[0] for case, _, _ in simulated(sgx)}
    assert outcomes == expected


def test_no_simulated_case_is_ever_accepted_under_intels_root(sgx):
    for case, quote, collateral in simulated(sgx):
        with pytest.raises(RefusedError):
            verify_quote(quote, collateral, IntelRoot(), moment(case["now"]))


def test_no_genuine_quote_is_accepted_under_a_simulated_root(sgx):
    case = json.loads((sgx / "sim" / "ok.json").read_text())
    root = SimulatedRoot(bytes.fromhex(case["root_der"]))
    for real, quote, collateral in genuine(sgx):
        with pytest.raises(RefusedError) as refusal:
            verify_quote(quote, collateral, root, moment(real["now"]))
        assert refusal.value.code == "quote-root-unknown"


def test_intels_root_cannot_be_made_a_simulated_one(sgx):
    with pytest.raises(CertificateError):
        SimulatedRoot((sgx / "intel_root_ca.der").read_bytes())


def test_collateral_with_a_changed_intel_text_is_refused(sgx):
    case, quote, collateral = next(genuine(sgx))
    for name in ("tcb_info", "qe_identity"):
        document = json.loads(collateral.to_json())
        document[name] = document[name].replace('"id":', '"id": ', 1)
        changed = Collateral.from_json(json.dumps(document))
        with pytest.raises(RefusedError) as refusal:
            verify_quote(quote, changed, IntelRoot(), moment(case["now"]))
        assert refusal.value.code == "quote-collateral-refused"


def test_foreign_quotes_of_other_shapes_are_refused(sgx):
    _, _, collateral = next(genuine(sgx))
    files = sorted((sgx / "public_negative").glob("*.bin"))
    files += sorted((sgx / "public_negative").glob("*.der"))
    assert files
    for file in files:
        with pytest.raises(RefusedError) as refusal:
            verify_quote(file.read_bytes(), collateral, IntelRoot(), moment(1_750_000_000))
        assert refusal.value.code == "quote-malformed", file.name


def test_tcb_information_that_other_parsers_refuse_is_refused_here_too(sgx):
    files = sorted((sgx / "public_negative").glob("*tcbInfoNegative*.json"))
    assert files
    for file in files:
        with pytest.raises(InvalidCollateralError):
            TcbInfo.parse(_inner(file.read_text(), "tcbInfo"))


def test_identities_that_other_parsers_refuse_are_refused_here_too(sgx):
    files = sorted((sgx / "public_negative").glob("*qe_identity_missing_*.json"))
    assert files
    for file in files:
        with pytest.raises(InvalidCollateralError):
            QeIdentity.parse(_inner(file.read_text(), "enclaveIdentity"))


def test_a_damaged_signing_chain_is_refused(sgx):
    pem = (
        sgx / "public_negative" / "oasisprotocol__testdata__tcb_info_v3_fmspc_00606A000000_certs_bad.pem"
    ).read_text()
    case, quote, collateral = next(genuine(sgx))
    document = json.loads(collateral.to_json()) | {"tcb_info_issuer_chain": pem}
    with pytest.raises(RefusedError):
        verify_quote(quote, Collateral.from_json(json.dumps(document)), IntelRoot(), moment(case["now"]))


def test_a_chain_of_many_certificates_is_refused(sgx):
    _, _, collateral = next(genuine(sgx))
    with pytest.raises(CertificateError):
        split_chain(collateral.tcb_info_issuer_chain * 4)


def _inner(text, name):
    """A signed text may lie bare or under its name; a missing signature makes no difference to the parser."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if name in document and "signature" in document:
        return json.dumps(document[name])
    return text
