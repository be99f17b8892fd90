"""
Layer keys wrapped as PKCS#7 envelopes: for whoever holds the private key of an RSA certificate.

As with JWE, anybody can wrap for a certificate: an envelope says nothing about who made the layer.
Certificates are taken as they are given; no chain and no date is checked when something is encrypted to one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.formats import der
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.ocicrypt.envelope import NONCE_BYTES, Envelope, EnvelopeRecipient, KeyTransport
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX

if TYPE_CHECKING:
    from enclave_cc.formats.jose.key_wrapping import PrivateKey

PKCS7_ANNOTATION: Final = f"{KEYS_PREFIX}pkcs7"
# ocicrypt's own choice; its readers know AES-256-GCM only since 2021.
_KEY_BYTES: Final = 16
_RSA_BITS: Final = range(2048, 8193)


@dataclass(frozen=True, slots=True)
class CertificateRecipient:
    """The holder of an RSA certificate's private key."""

    key: rsa.RSAPublicKey
    issuer_and_serial: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a certificate in PEM or DER; raise ``InvalidInputError`` (recipient-invalid)."""
        try:
            pem = b"-----BEGIN" in data
            certificate = (
                x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
            )
            key, issuer = certificate.public_key(), certificate.issuer.public_bytes()
            serial = certificate.serial_number
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _invalid("the certificate does not parse") from error
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in _RSA_BITS or serial < 0:
            raise _invalid("the certificate's key is not an RSA key of 2048 to 8192 bits")
        return cls(key, issuer + der.write_unsigned(serial))

    @property
    def annotation(self) -> str:
        """Return the annotation of PKCS#7 items."""
        return PKCS7_ANNOTATION

    def wrap(self, options: PrivateOptions) -> bytes:
        """Write an envelope with RSA PKCS#1 v1.5 and AES-128-GCM, which every ocicrypt can read."""
        content_key, nonce = os.urandom(_KEY_BYTES), os.urandom(NONCE_BYTES)
        recipient = EnvelopeRecipient(
            self.issuer_and_serial,
            KeyTransport.PKCS1_V1_5,
            self.key.encrypt(content_key, padding.PKCS1v15()),
        )
        ciphertext = AESGCM(content_key).encrypt(nonce, options.encode(), None)
        return Envelope((recipient,), _KEY_BYTES, nonce, ciphertext).encode()


def parse_envelope(item: bytes) -> Envelope:
    """Read an item; raise ``InvalidInputError`` (layer-key-invalid)."""
    with foreign("layer-key-invalid", "a layer's wrapped key is malformed", stage=Stage.DECRYPT):
        return Envelope.parse(item)


def unwrap_envelope(envelope: Envelope, key: PrivateKey) -> PrivateOptions:
    """
    Open an item with whichever of its copies the key fits.

    Raises ``RefusedError`` (layer-key-refused) with one text for everything that a wrong key or a changed
    envelope can cause, and ``InvalidInputError`` for content that was sealed malformed.
    """
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _refused("the key is not an RSA key")
    for recipient in envelope.recipients:
        content_key = _content_key(recipient, key, envelope.key_bytes)
        try:
            plaintext = AESGCM(content_key).decrypt(envelope.nonce, envelope.ciphertext, None)
        except InvalidTag:
            continue
        return PrivateOptions.parse(plaintext)
    raise _refused("the envelope does not open with this key")


def _content_key(recipient: EnvelopeRecipient, key: rsa.RSAPrivateKey, size_bytes: int) -> bytes:
    """
    Decrypt a content key, or make one up: nobody shall learn whether the padding was right (RFC 3218 §2.3).

    Both are tried on the content, which then fails for one and the same reason.
    """
    substitute = os.urandom(size_bytes)
    try:
        found = key.decrypt(recipient.encrypted_key, _padding(recipient.transport))
    except ValueError:
        return substitute
    return found if len(found) == size_bytes else substitute


def _padding(transport: KeyTransport) -> padding.AsymmetricPadding:
    if transport is KeyTransport.PKCS1_V1_5:
        return padding.PKCS1v15()
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


def _refused(detail: str) -> RefusedError:
    return RefusedError(
        "layer-key-refused", "the key does not open a layer of the image", stage=Stage.DECRYPT, detail=detail
    )


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "recipient-invalid", "a recipient cannot be used", stage=Stage.CONFIG, detail=detail
    )
