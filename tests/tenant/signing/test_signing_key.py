import base64
import json
import re

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.tenant.signing import secretbox
from enclave_cc.tenant.signing.cosign_key_file import is_cosign_key, open_cosign_key, seal_cosign_key
from enclave_cc.tenant.signing.signing_key import SigningKey, generate_signing_key

PASSWORD = b"correct horse"
KEYS = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(65537, 2048),
]
NAMES = ["p256", "p384", "ed25519", "rsa"]


def _pem(key, *, password=None, form=serialization.PrivateFormat.PKCS8):
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, hidden)


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_every_kind_of_key_signs_what_its_public_half_verifies(key):
    for data in (_pem(key), _pem(key, password=PASSWORD), SigningKey.of(key).to_pem(PASSWORD)):
        loaded = SigningKey.load(data, lambda: PASSWORD)
        assert loaded.public.has_signed(b"message", loaded.sign(b"message"))
        assert loaded.public == SigningKey.of(key).public


def test_older_forms_of_pem_are_read():
    key = KEYS[0]
    data = _pem(key, form=serialization.PrivateFormat.TraditionalOpenSSL)
    assert SigningKey.load(data).public == SigningKey.of(key).public


def test_a_password_is_asked_for_only_where_one_is_needed():
    def ask():
        pytest.fail("nobody has to be asked")

    SigningKey.load(generate_signing_key()[0], ask)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\n",
        _pem(x25519.X25519PrivateKey.generate()),
        _pem(ec.generate_private_key(ec.SECP521R1())),
        _pem(rsa.generate_private_key(65537, 1024)),
        SigningKey.generate().public.to_pem(),
        bytes(100_000),
        SigningKey.generate().to_pem(b"another password"),
        _pem(KEYS[0], password=b"another password"),
    ],
)
def test_what_cannot_sign_is_refused(data):
    with pytest.raises(InvalidInputError) as caught:
        SigningKey.load(data, lambda: PASSWORD)
    assert caught.value.code == "signing-key-invalid"


@pytest.mark.parametrize("data", [SigningKey.generate().to_pem(PASSWORD), _pem(KEYS[0], password=PASSWORD)])
def test_an_encrypted_key_needs_a_password(data):
    with pytest.raises(InvalidInputError) as caught:
        SigningKey.load(data)
    assert caught.value.code == "signing-key-invalid"


def _bent(change):
    data = seal_cosign_key(b"key", PASSWORD)
    begin, body, end = re.fullmatch(rb"(-+[^-]+-+\n)(.*?)(-+[^-]+-+\n)", data, re.DOTALL).groups()
    document = json.loads(base64.b64decode(body))
    change(document)
    return begin + base64.b64encode(json.dumps(document).encode()) + b"\n" + end


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["kdf"].update(name="argon2"),
        lambda document: document["cipher"].update(name="aes"),
        lambda document: document["kdf"]["params"].update(N=1 << 24),
        lambda document: document["kdf"]["params"].update(N=65535),
        lambda document: document["kdf"]["params"].update(r=1000),
        lambda document: document["cipher"].update(nonce="AAAA"),
        lambda document: document.update(ciphertext="AAAA"),
        lambda document: document.pop("kdf"),
    ],
)
def test_a_cosign_key_file_of_another_shape_is_refused(change):
    data = _bent(change)
    assert is_cosign_key(data)
    with pytest.raises(ValueError, match=r"\w"):
        open_cosign_key(data, PASSWORD)


def test_older_cosign_files_say_cosign():
    data = seal_cosign_key(b"key", PASSWORD).replace(b"SIGSTORE", b"COSIGN")
    assert open_cosign_key(data, PASSWORD) == b"key"


# NaCl's own test, tests/secretbox.c.
_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
_NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
_TEXT = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc"
    "e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31"
    "0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde"
    "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864"
    "5e0705"
)
_BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce"
    "48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c972"
    "71d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae"
    "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b3"
    "7973f622a43d14a6599b1f654cb45a74e355a5"
)


def test_the_box_is_the_one_of_nacl():
    assert secretbox.seal(_TEXT, key=_KEY, nonce=_NONCE) == _BOX
    assert secretbox.unseal(_BOX, key=_KEY, nonce=_NONCE) == _TEXT


@settings(max_examples=30)
@given(st.binary(max_size=200), st.data())
def test_a_box_survives_and_a_changed_one_does_not_open(text, data):
    box = bytearray(secretbox.seal(text, key=_KEY, nonce=_NONCE))
    assert secretbox.unseal(bytes(box), key=_KEY, nonce=_NONCE) == text
    box[data.draw(st.integers(0, len(box) - 1))] ^= 1
    with pytest.raises(ValueError, match="the password is wrong"):
        secretbox.unseal(bytes(box), key=_KEY, nonce=_NONCE)


@pytest.mark.parametrize(("key", "nonce"), [(b"", _NONCE), (_KEY, b"")])
def test_keys_and_nonces_have_one_length(key, nonce):
    with pytest.raises(ValueError, match="length"):
        secretbox.seal(b"", key=key, nonce=nonce)
