import base64
import itertools
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.ocicrypt.layer_cipher import (
    LayerAuthenticator,
    LayerDecryptor,
    LayerEncryptor,
    PrivateOptions,
    PublicOptions,
)

NONCE = base64.b64encode(bytes(16)).decode()
PRIVATE = {
    "symkey": base64.b64encode(bytes(32)).decode(),
    "digest": str(Digest.of(b"")),
    "cipheroptions": {"nonce": NONCE},
}
PUBLIC = {
    "cipher": "AES_256_CTR_HMAC_SHA256",
    "hmac": base64.b64encode(bytes(32)).decode(),
    "cipheroptions": {},
}


def _annotation(document):
    return base64.b64encode(json.dumps(document).encode()).decode()


def _encrypt(plain, options, cuts=()):
    encryptor = LayerEncryptor(options)
    edges = [0, *sorted(cuts), len(plain)]
    pieces = [encryptor.update(plain[a:b]) for a, b in itertools.pairwise(edges)]
    return b"".join(pieces), encryptor.finish()


def _authentic(ciphertext, options, public):
    authenticator = LayerAuthenticator(options)
    authenticator.update(ciphertext)
    return authenticator.finding("rule", public).outcome is Outcome.PASSED


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_what_was_encrypted_in_pieces_decrypts_whole(plain, cuts):
    options = PrivateOptions.fresh(Digest.of(plain))
    ciphertext, public = _encrypt(plain, options, [min(cut, len(plain)) for cut in cuts])
    assert len(ciphertext) == len(plain)
    assert _authentic(ciphertext, options, public)
    assert LayerDecryptor(options).update(ciphertext) == plain


def test_one_changed_byte_fails_the_hmac():
    options = PrivateOptions.fresh(Digest.of(b""))
    ciphertext, public = _encrypt(b"content", options)
    assert not _authentic(bytes([ciphertext[0] ^ 1]) + ciphertext[1:], options, public)
    assert not _authentic(ciphertext[:-1], options, public)
    assert not _authentic(ciphertext, PrivateOptions.fresh(Digest.of(b"")), public)


def test_no_key_or_nonce_is_used_twice():
    first, second = (PrivateOptions.fresh(Digest.of(b"")) for _ in range(2))
    assert first.symkey != second.symkey
    assert first.nonce != second.nonce


def test_options_survive_the_round_trip():
    options = PrivateOptions.fresh(Digest.of(b"x"))
    assert PrivateOptions.parse(options.encode()) == options
    public = PublicOptions(os.urandom(32))
    assert PublicOptions.parse(public.encode()) == public


def test_private_options_print_no_key():
    options = PrivateOptions.fresh(Digest.of(b"x"))
    assert base64.b64encode(options.symkey.reveal()).decode() not in repr(options)


@pytest.mark.parametrize(
    "change",
    [
        {"symkey": None},
        {"symkey": NONCE},
        {"symkey": "?"},
        {"digest": None},
        {"digest": "sha256:x"},
        {"cipheroptions": None},
        {"cipheroptions": {}},
        {"cipheroptions": {"nonce": "AAAA"}},
    ],
)
def test_one_wrong_member_makes_private_options_malformed(change):
    with pytest.raises(InvalidInputError) as caught:
        PrivateOptions.parse(json.dumps({**PRIVATE, **change}).encode())
    assert caught.value.code == "layer-encryption-invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"cipher": ""},
        {"cipher": "AES_256_CTR"},
        {"hmac": ""},
        {"hmac": "AAAA"},
        {"hmac": None},
        {"cipheroptions": {"nonce": "AAAA"}},
        {"cipheroptions": []},
    ],
)
def test_one_wrong_member_makes_public_options_malformed(change):
    with pytest.raises(InvalidInputError) as caught:
        PublicOptions.parse(_annotation({**PUBLIC, **change}))
    assert caught.value.code == "layer-encryption-invalid"


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_any_annotation_parses_or_is_refused(text):
    with pytest.raises(InvalidInputError):
        PublicOptions.parse(text)


@given(st.binary())
def test_any_unwrapped_bytes_parse_or_are_refused(data):
    with pytest.raises(InvalidInputError):
        PrivateOptions.parse(data)
