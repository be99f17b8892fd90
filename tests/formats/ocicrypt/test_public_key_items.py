"""Layer keys wrapped for a public key, as JWE and as PKCS#7."""

import contextlib
import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwk

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.formats import der
from enclave_cc.formats.jose.key_wrapping import ECDH, RSA_OAEP, RSA_OAEP_256
from enclave_cc.formats.ocicrypt.envelope import Envelope, EnvelopeRecipient, KeyTransport
from enclave_cc.formats.ocicrypt.jwe_item import JweRecipient, parse_jwe, unwrap_jwe
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.formats.ocicrypt.pkcs7_item import CertificateRecipient, parse_envelope, unwrap_envelope

OPTIONS = PrivateOptions.fresh(Digest.of(b"x"))
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP384R1())


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate(key, encoding=Encoding.PEM):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "owner.example")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(encoding)


def envelope(key=RSA):
    return parse_envelope(CertificateRecipient.parse(certificate(key)).wrap(OPTIONS))


def changed(found, **members):
    fields = {name: getattr(found, name) for name in ("recipients", "key_bytes", "nonce", "ciphertext")}
    return Envelope(**{**fields, **members})


def refusal(function, *arguments):
    with pytest.raises(EnclaveCcError) as caught:
        function(*arguments)
    return type(caught.value), caught.value.code, caught.value.detail


@pytest.mark.parametrize("key", [RSA, EC])
@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
def test_a_jwe_opens_with_its_private_key(key, form):
    data = {
        "pem": pem(key),
        "der": key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": jwk.JWK.from_pyca(key).export_public().encode(),
    }[form]
    item = JweRecipient.parse(data).wrap(OPTIONS)
    assert unwrap_jwe(parse_jwe(item), key) == OPTIONS


def test_a_jwk_chooses_how_keys_are_wrapped_for_it_among_what_is_accepted():
    members = json.loads(jwk.JWK.from_pyca(RSA).export_public())
    assert JweRecipient.parse(pem(RSA)).key.algorithm == RSA_OAEP
    assert JweRecipient.parse(pem(EC)).key.algorithm == ECDH
    chosen = JweRecipient.parse(json.dumps({**members, "alg": RSA_OAEP_256}).encode())
    assert chosen.key.algorithm == RSA_OAEP_256
    assert (
        refusal(JweRecipient.parse, json.dumps({**members, "alg": "RSA1_5"}).encode())[1]
        == "recipient-invalid"
    )


def test_a_jwe_for_somebody_else_is_refused():
    item = parse_jwe(JweRecipient.parse(pem(RSA)).wrap(OPTIONS))
    for key in (OTHER_RSA, EC):
        assert refusal(unwrap_jwe, item, key)[:2] == (RefusedError, "layer-key-refused")


def test_keys_that_protect_nothing_are_no_recipients():
    weak = rsa.generate_private_key(65537, 1024)
    assert refusal(JweRecipient.parse, pem(weak))[1] == "recipient-invalid"
    assert refusal(CertificateRecipient.parse, certificate(weak))[1] == "recipient-invalid"


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_an_envelope_opens_with_the_certificates_key(encoding):
    item = CertificateRecipient.parse(certificate(RSA, encoding)).wrap(OPTIONS)
    assert unwrap_envelope(parse_envelope(item), RSA) == OPTIONS


def test_an_envelope_survives_the_round_trip():
    item = CertificateRecipient.parse(certificate(RSA)).wrap(OPTIONS)
    assert parse_envelope(item).encode() == item


def test_an_envelope_in_the_form_of_older_writers_opens():
    good = envelope()
    content = der.write(der.CONTEXT_0, good.ciphertext)
    nested = der.write(der.CONSTRUCTED_0, der.write(der.OCTET_STRING, good.ciphertext))
    enveloped, info = (unwrapped(good.encode(), path) for path in ((1, 0), (1, 0, 2)))
    info = der.write(der.SEQUENCE, info.replace(content, nested))
    version, recipients, _ = (der.write(*item) for item in der.items(enveloped))
    sealed = der.write(der.CONSTRUCTED_0, der.write_sequence(version, recipients, info))
    item = der.write_sequence(der.write_oid("1.2.840.113549.1.7.3"), sealed)
    assert unwrap_envelope(parse_envelope(item), RSA) == OPTIONS


def unwrapped(data, path):
    _, content = der.read(data)
    for number in path:
        _, content = list(der.items(content))[number]
    return content


def test_an_envelope_for_several_opens_for_each():
    content_key, nonce = bytes(32), bytes(12)
    recipients = tuple(
        EnvelopeRecipient(b"", KeyTransport.OAEP_SHA256, key.public_key().encrypt(content_key, oaep()))
        for key in (OTHER_RSA, RSA)
    )
    sealed = AESGCM(content_key).encrypt(nonce, OPTIONS.encode(), None)
    found = parse_envelope(Envelope(recipients, 32, nonce, sealed).encode())
    assert unwrap_envelope(found, RSA) == unwrap_envelope(found, OTHER_RSA) == OPTIONS


def oaep():
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


def test_a_certificate_of_another_kind_of_key_is_no_recipient():
    assert refusal(CertificateRecipient.parse, certificate(EC))[1] == "recipient-invalid"
    assert refusal(CertificateRecipient.parse, pem(RSA))[1] == "recipient-invalid"


def test_everything_that_a_changed_envelope_can_cause_is_one_refusal():
    good = envelope()
    (copy,) = good.recipients
    short = RSA.public_key().encrypt(bytes(15), padding.PKCS1v15())
    wrong = RSA.public_key().encrypt(bytes(16), padding.PKCS1v15())
    keys = [
        bytes(256),
        bytes([copy.encrypted_key[0] ^ 1]) + copy.encrypted_key[1:],
        short,
        wrong,
        b"",
        bytes(300),
    ]
    bent = [
        changed(good, recipients=(EnvelopeRecipient(b"", copy.transport, encrypted_key),))
        for encrypted_key in keys
    ]
    bent.append(
        changed(good, recipients=(EnvelopeRecipient(b"", KeyTransport.OAEP_SHA256, copy.encrypted_key),))
    )
    bent.append(changed(good, ciphertext=good.ciphertext[:-1] + b"\0"))
    bent.append(changed(good, ciphertext=b""))
    bent.append(changed(good, key_bytes=32))
    bent.append(envelope(OTHER_RSA))
    assert len({refusal(unwrap_envelope, item, RSA) for item in bent}) == 1
    assert refusal(unwrap_envelope, good, EC)[1] == "layer-key-refused"


def test_content_that_does_not_authenticate_is_not_read():
    item = envelope().encode()
    cbc = item.replace(der.write_oid("2.16.840.1.101.3.4.1.6"), der.write_oid("2.16.840.1.101.3.4.1.2"))
    assert len(cbc) == len(item)
    kind, code, detail = refusal(parse_envelope, cbc)
    assert (kind, code) == (InvalidInputError, "layer-key-invalid")
    assert "not AES-GCM" in detail


def test_short_nonces_and_tags_are_refused():
    good = envelope()
    assert refusal(parse_envelope, changed(good, nonce=bytes(8)).encode())[1] == "layer-key-invalid"
    tag = der.write_unsigned(16)
    assert (
        refusal(parse_envelope, good.encode().replace(tag, der.write_unsigned(4)))[1] == "layer-key-invalid"
    )


# Made once: hypothesis wants the same item for the same example.
ENVELOPE = CertificateRecipient.parse(certificate(RSA)).wrap(OPTIONS)
JWE = JweRecipient.parse(pem(RSA)).wrap(OPTIONS)


@settings(max_examples=60)
@given(st.data())
def test_any_changed_byte_opens_or_is_refused(data):
    for parse, unwrap, good in (
        (parse_envelope, unwrap_envelope, ENVELOPE),
        (parse_jwe, unwrap_jwe, JWE),
    ):
        item = bytearray(good)
        item[data.draw(st.integers(0, len(item) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(RefusedError, InvalidInputError):
            assert unwrap(parse(bytes(item)), RSA) == OPTIONS


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    for parse in (parse_envelope, parse_jwe, JweRecipient.parse, CertificateRecipient.parse):
        with pytest.raises(EnclaveCcError):
            unwrap_jwe(parse(data), RSA)
