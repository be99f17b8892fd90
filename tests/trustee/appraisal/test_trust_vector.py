"""The vector, the comparison with reference values, and the register behind it."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.trustee.appraisal.comparison import compare
from enclave_cc.trustee.appraisal.evidence import Tee, VerifiedEvidence
from enclave_cc.trustee.appraisal.trust_vector import CLAIMS, Tier, TrustVector
from enclave_cc.trustee.reference_values.register import ReferenceValues
from enclave_cc.trustee.stores.sqlite import SqliteStore

EVIDENCE = VerifiedEvidence(Tee.SGX, {}, "ab" * 32, 1, bytes(64), bytes(64), ())


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        (-128, Tier.CONTRAINDICATED),
        (-97, Tier.CONTRAINDICATED),
        (-96, Tier.WARNING),
        (-33, Tier.WARNING),
        (-32, Tier.AFFIRMING),
        (-2, Tier.AFFIRMING),
        (-1, Tier.NONE),
        (1, Tier.NONE),
        (2, Tier.AFFIRMING),
        (31, Tier.AFFIRMING),
        (32, Tier.WARNING),
        (95, Tier.WARNING),
        (96, Tier.CONTRAINDICATED),
        (127, Tier.CONTRAINDICATED),
    ],
)
def test_tiers_are_those_of_the_specification(value, tier):
    assert Tier.of(value) is tier


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"executables": 0}, "none"),
        ({"executables": 3, "hardware": 2}, "affirming"),
        ({"executables": 33, "hardware": 2}, "warning"),
        ({"executables": 3, "hardware": 97}, "contraindicated"),
    ],
)
def test_the_worst_claim_is_the_status(claims, status):
    assert TrustVector.parse(claims).status == status


@pytest.mark.parametrize(
    "claims",
    [
        None,
        {},
        [],
        "x",
        {"unknown": 2},
        {"executables": "3"},
        {"executables": True},
        {"executables": 128},
        {"executables": 3.5},
        {"executables": None},
    ],
)
def test_a_vector_that_is_none_is_refused(claims):
    with pytest.raises(RefusedError):
        TrustVector.parse(claims)


@given(st.dictionaries(st.sampled_from(CLAIMS), st.integers(-128, 127), min_size=1))
def test_simulated_hardware_is_contraindicated_whatever_a_policy_says(claims):
    vector = TrustVector.parse(claims).simulated()
    assert Tier.of(vector.values["hardware"]) is Tier.CONTRAINDICATED
    assert vector.status == "contraindicated"


def test_findings_name_the_claims_that_speak_against():
    findings = TrustVector.parse({"executables": 33, "hardware": 2}).findings()
    assert [(finding.rule, finding.actual) for finding in findings] == [("trust-vector.executables", "33")]


def outcomes(**values):
    return {finding.rule: str(finding.outcome) for finding in compare(EVIDENCE, values)}


@pytest.mark.parametrize(
    ("measurements", "expected"),
    [
        (["ab" * 32], "passed"),
        (["00" * 32, "AB" * 32], "passed"),
        ("ab" * 32, "passed"),
        (["00" * 32], "failed"),
        ([], "failed"),
        ([None], "failed"),
        ({"ab" * 32: 1}, "failed"),
    ],
)
def test_measurements_are_compared(measurements, expected):
    assert outcomes(sgx_mr_enclave=measurements)["sgx.mr_enclave"] == expected


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([1], "passed"),
        (1, "passed"),
        (["0100"], "passed"),
        ([2], "failed"),
        (["0001"], "failed"),
        (["1"], "failed"),
        ([True], "failed"),
        ([], "failed"),
        (None, "failed"),
    ],
)
def test_product_ids_are_compared_as_numbers_or_as_existing_policies_write_them(products, expected):
    assert outcomes(sgx_isv_prod_id=products)["sgx.isv_prod_id"] == expected


@pytest.fixture
def clock():
    return [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]


@pytest.fixture
def register(tmp_path, clock):
    store = SqliteStore(tmp_path / "store.sqlite")
    yield ReferenceValues(store, lambda: clock[0])
    store.close()


def message(content, **changes):
    encoded = base64.b64encode(
        content if isinstance(content, bytes) else json.dumps(content).encode()
    ).decode()
    return json.dumps({"version": "0.1.0", "type": "sample", "payload": encoded} | changes).encode()


def test_values_are_registered_listed_and_forgotten(register):
    assert register.register_message(message({"a": ["1"], "b:c d": 2})) == ("a", "b:c d")
    assert register.current() == {"a": ["1"], "b:c d": 2}
    assert register.delete("a")
    assert register.get("a") is None


def test_an_expired_value_counts_as_absent(register, clock):
    register.register("a", ["1"])
    clock[0] += dt.timedelta(days=364)
    assert register.get("a") == ["1"]
    clock[0] += dt.timedelta(days=2)
    assert register.get("a") is None
    assert register.current() == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        message({}, version="0.2.0"),
        message({}, type="corim"),
        message({}, payload="*"),
        message([1]),
        message(b'{"a":1,"a":2}'),
        message(b'{"a":1e999}'),
        message({"": 1}),
        message({"a\nb": 1}),
        message({"a" * 257: 1}),
        message(b'{"\\ud800":1}'),
    ],
)
def test_a_message_that_is_none_is_refused(register, body):
    with pytest.raises(InvalidInputError):
        register.register_message(body)


def test_a_full_register_takes_known_names_only(register, monkeypatch):
    monkeypatch.setattr("enclave_cc.trustee.reference_values.register._MAX_VALUES", 1)
    register.register("a", 1)
    register.register("a", 2)
    with pytest.raises(InvalidInputError):
        register.register("b", 1)
