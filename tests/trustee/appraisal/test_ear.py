"""Tokens: ours, in time, complete; and how a client checks one."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.formats.jose.jwk import EcPublicJwk
from enclave_cc.formats.jose.jws import sign_es256, verify_es256
from enclave_cc.formats.kbs.runtime_data import runtime_data
from enclave_cc.formats.kbs.token import load_token_key, verify_token
from enclave_cc.trustee.appraisal.ear import LIFETIME, TokenIssuer
from enclave_cc.trustee.appraisal.trust_vector import TrustVector

SIGNING_KEY = ec.generate_private_key(ec.SECP256R1())
TEE_KEY = EcPublicJwk.of(ec.generate_private_key(ec.SECP256R1()).public_key(), algorithm="ECDH-ES+A256KW")
OTHER_KEY = EcPublicJwk.of(ec.generate_private_key(ec.SECP256R1()).public_key(), algorithm="ECDH-ES+A256KW")
VECTOR = TrustVector.parse({"executables": 3})
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def clock():
    return [START]


@pytest.fixture
def issuer(clock):
    return TokenIssuer(SIGNING_KEY, "test", lambda: clock[0])


@pytest.fixture
def token(issuer):
    evidence = {"sgx": {}, "runtime_data_claims": runtime_data("nonce", TEE_KEY)}
    return issuer.issue(evidence, VECTOR, {"ear.status": "affirming", "extra": [1]})


def changed(token, change):
    claims = json.loads(verify_es256(token, SIGNING_KEY.public_key()).payload)
    change(claims)
    return sign_es256(json.dumps(claims).encode(), SIGNING_KEY, header={})


def test_a_token_gives_back_claims_key_and_vector(issuer, token):
    verified = issuer.verify(token)
    assert verified.tee_key == TEE_KEY
    assert verified.trust_vector["executables"] == 3
    assert verified.claims["submods"]["cpu0"]["extra"] == [1]


def test_an_extension_does_not_replace_what_the_broker_says(issuer, token):
    assert issuer.verify(token).claims["submods"]["cpu0"]["ear.status"] == "affirming"
    worse = issuer.issue({}, TrustVector.parse({"hardware": 97}), {"ear.status": "affirming"})
    claims = json.loads(verify_es256(worse, SIGNING_KEY.public_key()).payload)
    assert claims["submods"]["cpu0"]["ear.status"] == "contraindicated"


def test_a_token_expires(issuer, token, clock):
    clock[0] += LIFETIME - dt.timedelta(seconds=1)
    assert issuer.verify(token)
    clock[0] += dt.timedelta(seconds=1)
    with pytest.raises(RefusedError):
        issuer.verify(token)


def test_a_token_of_another_broker_is_refused(token):
    other = TokenIssuer(ec.generate_private_key(ec.SECP256R1()), "test", lambda: START)
    with pytest.raises(RefusedError):
        other.verify(token)


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims.update(iss="other"),
        lambda claims: claims.pop("exp"),
        lambda claims: claims.update(exp="4000000000"),
        lambda claims: claims.pop("submods"),
        lambda claims: claims["submods"]["cpu0"].pop("ear.trustworthiness-vector"),
        lambda claims: claims["submods"]["cpu0"].pop("ear.veraison.annotated-evidence"),
    ],
)
def test_a_token_without_what_we_rely_on_is_refused(issuer, token, change):
    with pytest.raises(RefusedError):
        issuer.verify(changed(token, change))


def test_a_client_accepts_the_token_of_its_handshake(token):
    verify_token(token, SIGNING_KEY.public_key(), TEE_KEY, "nonce", now=START)


def test_a_client_tolerates_a_clock_that_is_a_minute_off(token):
    verify_token(
        token, SIGNING_KEY.public_key(), TEE_KEY, "nonce", now=START + LIFETIME + dt.timedelta(seconds=59)
    )


@pytest.mark.parametrize(
    "difference",
    [
        {"key": ec.generate_private_key(ec.SECP256R1()).public_key()},
        {"tee_key": OTHER_KEY},
        {"nonce": "other"},
        {"now": START + LIFETIME + dt.timedelta(seconds=60)},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_a_client_refuses_a_token_of_anything_else(token, difference):
    handshake = {"key": SIGNING_KEY.public_key(), "tee_key": TEE_KEY, "nonce": "nonce", "now": START}
    with pytest.raises(RefusedError) as caught:
        verify_token(token, **(handshake | difference))
    assert caught.value.code == "broker-token-refused"


def test_only_p256_keys_name_a_broker():
    for key in (ec.generate_private_key(ec.SECP384R1()), SIGNING_KEY):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        if key is SIGNING_KEY:
            assert load_token_key(pem).public_numbers() == key.public_key().public_numbers()
        else:
            with pytest.raises(InvalidInputError):
                load_token_key(pem)
