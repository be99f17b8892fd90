"""How an app enclave knows that its agent is the owner's: every claim that the token must make."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.enclave.boot.agent_token import AgentToken
from enclave_cc.formats.jose.jws import sign_es256
from enclave_cc.formats.owner.settings import OwnerSettings
from enclave_cc.formats.sgx import ReportBody

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
AGENT = ReportBody(mr_enclave=b"G" * 32, isv_prod_id=1)
NOW = 1_000_000
# A key of GOST R 34.10-2001, which the library has no code for.
UNKNOWN_KIND = (
    "-----BEGIN PUBLIC KEY-----\nMB0wCAYGKoUDAgITAxEAAAAAAAAAAAAAAAAAAAAAAA==\n-----END PUBLIC KEY-----\n"
)


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(key=KEY, *, expires=NOW + 60, tee="sgx-sim", measurement="47" * 32, executables=3):
    submodule = {
        "ear.trustworthiness-vector": {"executables": executables, "hardware": 97},
        "ear.veraison.annotated-evidence": {tee: {"body": {"mr_enclave": measurement}}},
    }
    claims = {"exp": expires, "submods": {"cpu0": submodule}}
    return sign_es256(json.dumps(claims).encode(), key, header={}).encode()


def verify(data, key=KEY, url="https://broker.example"):
    settings = OwnerSettings(broker_url=url, broker_token_key=pem(key))
    AgentToken(settings, tee="sgx-sim", clock=lambda: float(NOW)).verify(data, AGENT)


def refused_rules(data, **settings):
    with pytest.raises(RefusedError) as caught:
        verify(data, **settings)
    assert caught.value.code == "agent-token-refused"
    return [finding.rule for finding in caught.value.findings if finding.outcome is Outcome.FAILED]


def test_a_token_of_the_owners_broker_about_this_agent_passes():
    verify(token())


def test_another_brokers_token_is_refused():
    assert refused_rules(token(OTHER)) == ["token.signature"]


def test_a_token_about_another_program_is_refused():
    assert refused_rules(token(measurement="48" * 32)) == ["token.mr_enclave"]


def test_a_token_without_a_measurement_is_refused():
    assert refused_rules(token(measurement="")) == ["token.mr_enclave"]


def test_an_expired_token_is_refused():
    assert refused_rules(token(expires=NOW)) == ["token.expiry"]


def test_a_token_about_another_kind_of_processor_is_refused():
    assert refused_rules(token(tee="sgx")) == ["token.tee", "token.mr_enclave"]


@pytest.mark.parametrize("executables", [-1, 0, 1, 32, 33, 96, None])
def test_a_token_about_a_program_that_the_broker_does_not_affirm_is_refused(executables):
    assert refused_rules(token(executables=executables)) == ["token.executables"]


@pytest.mark.parametrize("data", [b"", b"a.b.c", b"\xff", token()[:-5], token().replace(b".", b"", 1)])
def test_what_is_no_token_is_refused(data):
    assert refused_rules(data) == ["token.signature"]


@pytest.mark.parametrize("claims", [{}, {"exp": "1"}, {"exp": NOW + 9, "submods": []}, []])
def test_a_signed_token_of_another_shape_is_refused(claims):
    data = sign_es256(json.dumps(claims).encode(), KEY, header={}).encode()
    with pytest.raises(RefusedError):
        verify(data)


def test_without_a_broker_there_is_no_token_to_ask_for():
    AgentToken(OwnerSettings(), tee="sgx-sim", clock=lambda: 0.0).verify(b"", AGENT)


@pytest.mark.parametrize("pinned", ["", "-----BEGIN PUBLIC KEY-----", UNKNOWN_KIND])
def test_a_pinned_key_that_is_none_is_refused(pinned):
    settings = OwnerSettings(broker_url="https://broker.example", broker_token_key=pinned)
    with pytest.raises(RefusedError) as caught:
        AgentToken(settings, tee="sgx-sim", clock=lambda: float(NOW)).verify(token(), AGENT)
    assert caught.value.code == "agent-token-refused"
