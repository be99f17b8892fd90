"""A key that parsed is a key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwk as other

from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, RsaPublicJwk, parse_public_jwk

KEY = EcPublicJwk.of(ec.generate_private_key(ec.SECP256R1()).public_key(), algorithm="ES256").to_json()


def test_keys_round_trip():
    assert parse_public_jwk(KEY).to_json() == KEY
    key = RsaPublicJwk.of(rsa.generate_private_key(65537, 2048).public_key(), algorithm="RSA-OAEP-256")
    assert parse_public_jwk(key.to_json()) == key


def test_thumbprints_are_those_of_another_library():
    assert parse_public_jwk(KEY).thumbprint() == other.JWK(**KEY).thumbprint()


def test_members_that_are_not_part_of_the_key_are_dropped():
    assert parse_public_jwk({**KEY, "kid": "k", "use": "enc"}).to_json() == KEY


@pytest.mark.parametrize("name", ["d", "p", "k"])
def test_private_members_are_refused(name):
    with pytest.raises(JoseError):
        parse_public_jwk({**KEY, name: "AQ"})


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "oct"},
        {"kty": "OKP"},
        {"crv": "P-384"},
        {"crv": "P-521"},
        {"x": base64url.encode(bytes(32))},
        {"x": KEY["x"] + "AA"},
        {"x": ""},
        {"y": KEY["x"]},
        {"x": 7},
        {"kty": None},
    ],
)
def test_what_is_not_a_point_of_its_curve_is_refused(change):
    with pytest.raises(JoseError):
        parse_public_jwk({**KEY, **change})


@pytest.mark.parametrize("bits", [1024, 16384])
def test_rsa_keys_of_odd_sizes_are_refused(bits):
    modulus = base64url.encode(((1 << (bits - 1)) | 1).to_bytes(bits // 8, "big"))
    with pytest.raises(JoseError):
        parse_public_jwk({"kty": "RSA", "n": modulus, "e": "AQAB"})


@given(
    st.one_of(
        st.text(max_size=10),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(
            st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg"]),
            st.sampled_from(["EC", "RSA", "P-256", "AQAB", "", "é"])
            | st.binary(max_size=70).map(base64url.encode),
        ),
    )
)
def test_any_value_gives_a_key_or_the_declared_error(value):
    try:
        parse_public_jwk(value)
    except JoseError:
        return
