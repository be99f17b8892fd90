import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.signatures.claim import MAX_PAYLOAD_BYTES, SignedClaim
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.formats.sigstore.cosign import (
    MAX_SIGNATURES,
    PAYLOAD_MEDIA_TYPE,
    SIGNATURE_ANNOTATION,
    signature_layers,
    signature_tag,
)
from enclave_cc.tenant.signing.signing_key import SigningKey, generate_signing_key

CLAIM = SignedClaim(Digest.of(b"manifest"), "registry.example/app")
CONFIG = Descriptor("application/x", Digest.of(b""), 0)


def _public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _layer(signature="c2ln", media_type=PAYLOAD_MEDIA_TYPE, size=10):
    return Descriptor(media_type, Digest.of(b"payload"), size, {SIGNATURE_ANNOTATION: signature})


def test_what_was_signed_verifies():
    private, public = generate_signing_key()
    payload = CLAIM.to_bytes()
    signature = SigningKey.load(private).sign(payload)
    assert PublicKey.from_pem(public).has_signed(payload, signature)
    assert SignedClaim.parse(payload) == CLAIM


@pytest.mark.parametrize(
    "tamper",
    [lambda p, s: (p + b" ", s), lambda p, s: (p, s[:-1]), lambda p, _: (p, b""), lambda _, s: (b"", s)],
)
def test_a_changed_payload_or_signature_does_not_verify(tamper):
    private, public = generate_signing_key()
    payload = CLAIM.to_bytes()
    signature = SigningKey.load(private).sign(payload)
    assert not PublicKey.from_pem(public).has_signed(*tamper(payload, signature))


def test_a_signature_by_another_key_does_not_verify():
    private, _ = generate_signing_key()
    _, public = generate_signing_key()
    payload = CLAIM.to_bytes()
    assert not PublicKey.from_pem(public).has_signed(payload, SigningKey.load(private).sign(payload))


@pytest.mark.parametrize(
    ("key", "options"),
    [
        (ec.generate_private_key(ec.SECP384R1()), (ec.ECDSA(hashes.SHA384()),)),
        (ec.generate_private_key(ec.SECP384R1()), (ec.ECDSA(hashes.SHA256()),)),
        (ed25519.Ed25519PrivateKey.generate(), ()),
        (rsa.generate_private_key(65537, 2048), (padding.PKCS1v15(), hashes.SHA256())),
    ],
    ids=["p384-sha384", "p384-sha256", "ed25519", "rsa-2048"],
)
def test_other_kinds_of_keys_verify_too(key, options):
    public = PublicKey.from_pem(_public_pem(key))
    assert public.has_signed(b"message", key.sign(b"message", *options))
    assert not public.has_signed(b"another", key.sign(b"message", *options))


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        _public_pem(ec.generate_private_key(ec.SECP256K1())),
        _public_pem(rsa.generate_private_key(65537, 1024)),
        generate_signing_key()[0],
        b"\x00" * 100_000,
    ],
    ids=["empty", "nonsense", "secp256k1", "rsa-1024", "private", "long"],
)
def test_other_keys_are_refused(pem):
    with pytest.raises(InvalidInputError) as caught:
        PublicKey.from_pem(pem)
    assert caught.value.code == "signature-key-invalid"


@pytest.mark.parametrize("pem", [b"", generate_signing_key()[1], b"-----BEGIN PRIVATE KEY-----\n"])
def test_signing_wants_a_private_key(pem):
    with pytest.raises(InvalidInputError) as caught:
        SigningKey.load(pem)
    assert caught.value.code == "signing-key-invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"type": "atomic container signature"},
        {"type": None},
        {"image": {}},
        {"image": {"docker-manifest-digest": "x"}},
        {"identity": {}},
        {"more": 1},
    ],
)
def test_one_wrong_member_makes_a_payload_malformed(change):
    document = json.loads(CLAIM.to_bytes())
    document["critical"].update(change)
    with pytest.raises(InvalidInputError) as caught:
        SignedClaim.parse(json.dumps(document).encode())
    assert caught.value.code == "signature-invalid"


@given(st.binary())
def test_any_bytes_parse_or_are_refused(data):
    with pytest.raises(InvalidInputError):
        SignedClaim.parse(data)


def test_layers_that_are_no_signatures_hide_none():
    layers = (
        _layer(media_type="application/x"),
        _layer(signature=""),
        _layer(signature="???"),
        _layer(size=MAX_PAYLOAD_BYTES + 1),
        _layer(signature="c2\nln"),
    )
    (found,) = signature_layers(Manifest(CONFIG, layers))
    assert found.signature == b"sig"


def test_the_work_for_signatures_is_bounded():
    assert len(signature_layers(Manifest(CONFIG, (_layer(),) * 1000))) == MAX_SIGNATURES


def test_a_signature_made_by_others_is_found_and_read(vectors):
    layout = vectors / "oci" / "oci-encrypted"
    image, signature = Index.parse((layout / "index.json").read_bytes()).manifests
    assert signature.annotations["org.opencontainers.image.ref.name"] == signature_tag(image.digest)
    manifest = Manifest.parse((layout / "blobs" / "sha256" / signature.digest.hex).read_bytes())
    (layer,) = signature_layers(manifest)
    payload = (layout / "blobs" / "sha256" / layer.payload.digest.hex).read_bytes()
    assert SignedClaim.parse(payload) == SignedClaim(image.digest, "example.com/test/enc")
    _, another = generate_signing_key()
    assert not PublicKey.from_pem(another).has_signed(payload, layer.signature)
