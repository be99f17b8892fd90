import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats.signatures.ed25519ph import has_signed

# RFC 8032, 7.3.
PUBLIC = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
SIGNATURE = bytes.fromhex(
    "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
    "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
)
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_the_vector_of_the_rfc_verifies():
    assert has_signed(PUBLIC, b"abc", SIGNATURE)


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_changed_byte_does_not_verify(place):
    changed = bytearray(SIGNATURE)
    changed[place] ^= 1
    assert not has_signed(PUBLIC, b"abc", bytes(changed))


def test_another_message_or_key_does_not_verify():
    assert not has_signed(PUBLIC, b"abd", SIGNATURE)
    another = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert not has_signed(another, b"abc", SIGNATURE)


def test_a_scalar_beyond_the_order_is_refused():
    scalar = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    assert not has_signed(PUBLIC, b"abc", SIGNATURE[:32] + scalar.to_bytes(32, "little"))


def test_a_signature_of_the_plain_variant_is_none_of_this_one():
    key = ed25519.Ed25519PrivateKey.generate()
    assert not has_signed(key.public_key().public_bytes_raw(), b"abc", key.sign(b"abc"))


@settings(max_examples=30)
@given(st.binary(max_size=40), st.binary(max_size=70))
def test_any_bytes_are_no_signature(public, signature):
    assert not has_signed(public, b"abc", signature)
