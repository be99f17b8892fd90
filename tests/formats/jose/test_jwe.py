"""Resources sealed to a key: byte-exact for existing clients, strict when opened."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe as other
from joserfc.jwk import ECKey, RSAKey
from jwcrypto import jwe as third
from jwcrypto import jwk as third_jwk

from enclave_cc.formats.jose import base64url, jwe
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, RsaPublicJwk, parse_public_jwk
from enclave_cc.formats.jose.key_wrapping import ECDH, RSA_OAEP, RSA_OAEP_256

P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
RSA = rsa.generate_private_key(65537, 2048)


def public(key):
    if isinstance(key, rsa.RSAPrivateKey):
        return RsaPublicJwk.of(key.public_key(), algorithm=RSA_OAEP_256)
    return EcPublicJwk.of(key.public_key(), algorithm=ECDH)


@pytest.fixture(params=[P256, P384, P521, RSA], ids=["P-256", "P-384", "P-521", "RSA"])
def key(request):
    return request.param


def test_what_is_sealed_opens(key):
    assert jwe.unseal(jwe.seal(b"secret", public(key)), key) == b"secret"


def test_an_empty_secret_is_a_secret(key):
    assert jwe.unseal(jwe.seal(b"", public(key)), key) == b""


def test_vectors_of_others_open(vectors):
    for vector in json.loads((vectors / "oci" / "kbs_jwe.json").read_text()):
        private = load_pem_private_key(vector["tee_private_pkcs8_pem"].encode(), None)
        for name in ("response_trustee_style", "response_jwcrypto"):
            assert jwe.unseal(vector[name], private) == vector["plaintext"].encode()


def test_public_keys_of_others_are_read(vectors):
    for vector in json.loads((vectors / "oci" / "kbs_jwe.json").read_text()):
        assert parse_public_jwk(vector["tee_pubkey"]).to_json() == vector["tee_pubkey"]


def test_other_libraries_open_what_we_seal(key):
    message = jwe.seal(b"secret", public(key))
    registry = other.JWERegistry(algorithms=[ECDH, RSA_OAEP_256, "A256GCM"])
    wrapper = RSAKey if key is RSA else ECKey
    assert other.decrypt_json(message, wrapper.import_key(key), registry=registry).plaintext == b"secret"
    opened = third.JWE()
    opened.deserialize(json.dumps(message), third_jwk.JWK.from_pyca(key))
    assert opened.payload == b"secret"


def test_the_header_is_written_byte_for_byte_as_clients_rebuild_it():
    header = base64url.decode(jwe.seal(b"", public(P256))["protected"])
    parsed = json.loads(header)
    assert list(parsed) == ["alg", "enc", "epk"]
    assert list(parsed["epk"]) == ["crv", "kty", "x", "y"]
    assert header == json.dumps(parsed, separators=(",", ":")).encode()


@pytest.mark.parametrize("member", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_a_change_anywhere_is_refused(key, member):
    message = jwe.seal(b"secret", public(key))
    data = bytearray(base64url.decode(message[member]))
    data[0] ^= 1
    with pytest.raises(JoseError):
        jwe.unseal({**message, member: base64url.encode(data)}, key)


@pytest.mark.parametrize("member", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_a_missing_part_is_refused(key, member):
    message = jwe.seal(b"secret", public(key))
    del message[member]
    with pytest.raises(JoseError):
        jwe.unseal(message, key)


def test_another_key_is_refused():
    with pytest.raises(JoseError):
        jwe.unseal(jwe.seal(b"secret", public(P256)), ec.generate_private_key(ec.SECP256R1()))


def test_a_short_tag_is_refused(key):
    message = jwe.seal(b"secret", public(key))
    with pytest.raises(JoseError):
        jwe.unseal({**message, "tag": base64url.encode(base64url.decode(message["tag"])[:12])}, key)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RSA1_5", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "ECDH-ES+A256KW", "enc": "A128GCM"},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "crit": ["x"]},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "zip": "DEF"},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        [],
    ],
)
def test_other_algorithms_and_members_are_refused(header):
    message = jwe.seal(b"secret", public(P256))
    protected = base64url.encode(json.dumps(header).encode())
    with pytest.raises(JoseError):
        jwe.unseal({**message, "protected": protected}, P256)


def test_algorithms_that_we_do_not_offer_are_not_sealed_to():
    with pytest.raises(JoseError):
        jwe.seal(b"", RsaPublicJwk.of(RSA.public_key(), algorithm="RSA1_5"))
    with pytest.raises(JoseError):
        jwe.seal(b"", EcPublicJwk.of(P256.public_key(), algorithm=""))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["protected", "encrypted_key", "iv", "ciphertext", "tag", "header"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_message_gives_the_declared_error(message):
    with pytest.raises(JoseError):
        jwe.unseal(message, P256)


def general(key, *others, algorithm=None):
    """A message of another library for several keys."""
    protected = {"enc": "A256GCM"}
    message = third.JWE(b"secret", json.dumps(protected))
    for recipient in (*others, key):
        name = algorithm or ("RSA-OAEP" if isinstance(recipient, rsa.RSAPrivateKey) else ECDH)
        message.add_recipient(third_jwk.JWK.from_pyca(recipient), json.dumps({"alg": name}))
    return json.loads(message.serialize())


def test_the_general_form_opens_for_each_of_its_recipients(key):
    message = general(key, ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))
    assert len(message["recipients"]) == 3
    assert jwe.unseal(message, key, jwe.LAYER_KEYS) == b"secret"
    with pytest.raises(JoseError):
        jwe.unseal(message, ec.generate_private_key(ec.SECP384R1()), jwe.LAYER_KEYS)


def test_brokers_do_not_send_the_general_form(key):
    with pytest.raises(JoseError, match="plain flattened"):
        jwe.unseal(general(key, P256), key)


def test_a_recipient_beside_the_list_of_recipients_is_refused(key):
    message = general(key, P256)
    with pytest.raises(JoseError, match="beside the list"):
        jwe.unseal({**message, "encrypted_key": "AA"}, key, jwe.LAYER_KEYS)
    with pytest.raises(JoseError, match="plain flattened"):
        jwe.unseal({**message, "header": {}}, key, jwe.LAYER_KEYS)


def test_the_first_recipients_key_may_be_repeated_beside_the_list(key):
    message = general(key, P256)
    repeated = {**message, "encrypted_key": message["recipients"][0]["encrypted_key"]}
    assert jwe.unseal(repeated, key, jwe.LAYER_KEYS) == b"secret"


def test_a_message_for_nobody_opens_for_nobody():
    message = general(P256, RSA)
    with pytest.raises(JoseError, match="no or too many"):
        jwe.unseal({**message, "recipients": []}, P256, jwe.LAYER_KEYS)


def test_more_recipients_than_anybody_writes_are_refused():
    message = general(P256, RSA)
    with pytest.raises(JoseError, match="too many"):
        jwe.unseal({**message, "recipients": message["recipients"] * 9}, P256, jwe.LAYER_KEYS)


@pytest.mark.parametrize("member", ["aad", "unprotected"])
def test_members_that_change_the_meaning_of_others_are_refused(member):
    message = jwe.seal(b"", public(P256))
    with pytest.raises(JoseError, match="not understood"):
        jwe.unseal({**message, member: "AA"}, P256)


def test_a_name_in_both_headers_is_refused():
    message = jwe.seal(b"", public(P256), jwe.LAYER_KEYS)
    with pytest.raises(JoseError, match="unprotected"):
        jwe.unseal({**message, "header": {"alg": ECDH}}, P256, jwe.LAYER_KEYS)


def test_rsa_oaep_with_sha1_wraps_layer_keys_and_no_resources():
    recipient = RsaPublicJwk.of(RSA.public_key(), algorithm=RSA_OAEP)
    message = jwe.seal(b"secret", recipient, jwe.LAYER_KEYS)
    assert jwe.unseal(message, RSA, jwe.LAYER_KEYS) == b"secret"
    registry = other.JWERegistry(algorithms=[RSA_OAEP, "A256GCM"])
    opened = other.decrypt_json(message, RSAKey.import_key(RSA), registry=registry)
    assert opened.plaintext == b"secret"
    with pytest.raises(JoseError):
        jwe.unseal(message, RSA)
    with pytest.raises(JoseError):
        jwe.seal(b"secret", recipient)


@pytest.mark.parametrize("algorithm", ["RSA1_5"])
def test_rsa1_5_wraps_nothing(algorithm):
    message = third.JWE(b"", json.dumps({"alg": algorithm, "enc": "A256GCM"}), algs=[algorithm, "A256GCM"])
    message.add_recipient(third_jwk.JWK.from_pyca(RSA))
    with pytest.raises(JoseError, match="not accepted"):
        jwe.unseal(json.loads(message.serialize()), RSA, jwe.LAYER_KEYS)
