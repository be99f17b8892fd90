"""ES256 and nothing else."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as other
from joserfc.jwk import ECKey
from jwcrypto import jwk, jwt

from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS, sign_es256, verify_es256

KEY = ec.generate_private_key(ec.SECP256R1())


def resigned(header, payload=b"{}", key=KEY):
    """A token with any header at all, and a good ES256 signature."""
    token = sign_es256(payload, key, header={})
    protected = base64url.encode(json.dumps(header).encode() if isinstance(header, dict) else header)
    _, middle, _ = token.split(".")
    signing_input = f"{protected}.{middle}".encode()
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(SHA256())))
    return f"{protected}.{middle}.{base64url.encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_a_token_verifies_and_gives_back_header_and_payload():
    verified = verify_es256(sign_es256(b'{"a":1}', KEY, header={"kid": "k"}), KEY.public_key())
    assert verified.payload == b'{"a":1}'
    assert verified.header == {"kid": "k", "alg": "ES256"}


def test_other_libraries_verify_our_tokens():
    token = sign_es256(b'{"exp":4000000000}', KEY, header={"typ": "JWT"})
    assert other.deserialize_compact(token, ECKey.import_key(KEY.public_key()), algorithms=["ES256"]).payload
    assert jwt.JWT(jwt=token, key=jwk.JWK.from_pyca(KEY.public_key())).claims == '{"exp":4000000000}'


def test_we_verify_tokens_of_other_libraries():
    token = other.serialize_compact({"alg": "ES256"}, b"payload", ECKey.import_key(KEY))
    assert verify_es256(token, KEY.public_key()).payload == b"payload"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {},
        {"alg": "ES256", "crit": ["exp"]},
        {"alg": "ES256", "crit": []},
        {"alg": "ES256", "b64": False},
        b"[]",
        b"not json",
        b'{"alg":"ES256","alg":"ES256"}',
    ],
)
def test_a_header_that_asks_for_anything_else_is_refused_although_its_signature_is_good(header):
    with pytest.raises(JoseError):
        verify_es256(resigned(header), KEY.public_key())


def test_an_unsigned_token_is_refused():
    header, payload, _ = sign_es256(b"{}", KEY, header={}).split(".")
    with pytest.raises(JoseError):
        verify_es256(f"{header}.{payload}.", KEY.public_key())


def test_another_key_is_refused():
    with pytest.raises(JoseError):
        verify_es256(sign_es256(b"{}", KEY, header={}), ec.generate_private_key(ec.SECP256R1()).public_key())


def test_keys_of_another_curve_are_refused():
    with pytest.raises(JoseError):
        sign_es256(b"{}", ec.generate_private_key(ec.SECP384R1()), header={})


def test_a_changed_payload_is_refused():
    header, _, signature = sign_es256(b"{}", KEY, header={}).split(".")
    with pytest.raises(JoseError):
        verify_es256(f"{header}.{base64url.encode(b'{ }')}.{signature}", KEY.public_key())


def test_a_text_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(JoseError):
        verify_es256("A" * (MAX_TOKEN_CHARS + 1), KEY.public_key())


@given(st.text(max_size=200))
def test_any_text_gives_the_declared_error(text):
    with pytest.raises(JoseError):
        verify_es256(text, KEY.public_key())


@given(st.binary(max_size=64))
def test_base64url_round_trips(data):
    assert base64url.decode(base64url.encode(data)) == data


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "Q+", "Q/", " QQ", "QQ\n", "é"])
def test_base64url_has_one_text_for_each_value(text):
    with pytest.raises(JoseError):
        base64url.decode(text)
