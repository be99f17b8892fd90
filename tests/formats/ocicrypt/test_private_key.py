import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwk

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.ocicrypt.private_key import parse_private_key

RSA = rsa.generate_private_key(65537, 2048)
EC = {name: ec.generate_private_key(getattr(ec, f"SECP{name}R1")()) for name in (256, 384, 521)}


def numbers(key):
    return key.private_numbers()


def jwk_of(key, **change):
    members = json.loads(jwk.JWK.from_pyca(key).export_private())
    return json.dumps({name: value for name, value in {**members, **change}.items() if value}).encode()


def refused(data, **options):
    with pytest.raises(InvalidInputError) as caught:
        parse_private_key(data, **options)
    assert caught.value.code == "decryption-key-invalid"
    return caught.value.detail


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("key", [RSA, *EC.values()])
def test_keys_in_every_usual_form_are_read(encoding, form, key):
    data = key.private_bytes(encoding, form, NoEncryption())
    assert numbers(parse_private_key(data)) == numbers(key)


@pytest.mark.parametrize("key", [RSA, *EC.values()])
def test_keys_in_json_are_read(key):
    assert numbers(parse_private_key(jwk_of(key))) == numbers(key)


def test_a_password_opens_its_key_and_nothing_else_does():
    data = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right"))
    assert numbers(parse_private_key(data, password=b"right")) == numbers(RSA)
    assert refused(data, password=b"wrong") == "the password does not open the key"
    assert refused(data) == "the key is protected by a password"


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
    ],
    ids=["ed25519", "secp256k1", "rsa1024"],
)
def test_other_kinds_of_keys_are_refused(key):
    refused(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_members_that_do_not_belong_together_are_refused():
    other = json.loads(jwk.JWK.from_pyca(EC[384]).export_private())["d"]
    refused(jwk_of(EC[256], d=json.loads(jwk_of(ec.generate_private_key(ec.SECP256R1())))["d"]))
    refused(jwk_of(EC[256], d=other))
    refused(jwk_of(RSA, p=json.loads(jwk_of(RSA))["q"]))
    refused(jwk_of(RSA, d=None))
    refused(jwk_of(RSA, kty="oct"))


def test_a_public_key_is_no_private_key():
    refused(jwk.JWK.from_pyca(RSA).export_public().encode())


@settings(max_examples=100)
@given(
    st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda data: b"-----BEGIN PRIVATE KEY-----\n" + data)
    | st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi"]),
        st.sampled_from(["EC", "RSA", "P-256", "AQAB", "", "?"]),
    ).map(lambda members: json.dumps(members).encode())
)
def test_any_bytes_end_in_the_declared_error(data):
    refused(data)
    refused(data, password=b"x")


def test_a_key_longer_than_any_is_not_read():
    assert refused(bytes(1 << 20)) == "the key is too long"
