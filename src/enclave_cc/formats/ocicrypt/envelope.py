"""
PKCS#7 EnvelopedData (RFC 2315 §10, RFC 5652 §6) as ocicrypt's library writes it, and no more of it.

The content is sealed with AES-GCM although EnvelopedData has no place for that: its parameters are a
SEQUENCE inside of a value that says SEQUENCE and is not constructed, with the nonce under a context tag.
CBC, which any reader of the general format would expect, is neither written nor read: it does not
authenticate, and whoever watches which envelopes open could learn what is inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.formats import der
from enclave_cc.formats.der import InvalidDerError

if TYPE_CHECKING:
    from collections.abc import Iterator

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_RECIPIENTS: Final = 16

_ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"
_DATA: Final = "1.2.840.113549.1.7.1"
_GCM_KEY_BYTES: Final = {"2.16.840.1.101.3.4.1.6": 16, "2.16.840.1.101.3.4.1.46": 32}
_GCM_OIDS: Final = {size: oid for oid, size in _GCM_KEY_BYTES.items()}
_RSA: Final = "1.2.840.113549.1.1.1"
_OAEP: Final = "1.2.840.113549.1.1.7"
_MGF1: Final = "1.2.840.113549.1.1.8"
_SHA256: Final = "2.16.840.1.101.3.4.2.1"

_PRIMITIVE_SEQUENCE: Final = 0x10
_NONCE: Final = 0x84


class KeyTransport(StrEnum):
    """How a content key is encrypted to an RSA key."""

    PKCS1_V1_5 = "RSAES-PKCS1-v1_5"
    OAEP_SHA256 = "RSAES-OAEP with SHA-256"


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """One copy of the content key; the name of the certificate it is for stays DER."""

    issuer_and_serial: bytes
    transport: KeyTransport
    encrypted_key: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed content and the copies of its key; ``ciphertext`` ends with the tag."""

    recipients: tuple[EnvelopeRecipient, ...]
    key_bytes: int
    nonce: bytes
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the DER; raise ``InvalidDerError`` for anything that ocicrypt does not write."""
        outer = der.items(_content(data))
        _require_oid(outer, _ENVELOPED_DATA)
        enveloped = der.items(_inner(_take(outer, der.CONSTRUCTED_0), der.SEQUENCE))
        _finish(outer)
        der.unsigned(_take(enveloped, der.INTEGER))
        recipients = tuple(_recipient(tag, item) for tag, item in der.items(_take(enveloped, der.SET)))
        if not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise InvalidDerError("envelope: number of recipients")
        info = der.items(_take(enveloped, der.SEQUENCE))
        _finish(enveloped)
        _require_oid(info, _DATA)
        key_bytes, nonce = _gcm(_take(info, der.SEQUENCE))
        ciphertext = _sealed(info)
        _finish(info)
        return cls(recipients, key_bytes, nonce, ciphertext)

    def encode(self) -> bytes:
        """Write the DER."""
        parameters = der.write_sequence(der.write(_NONCE, self.nonce), der.write_unsigned(TAG_BYTES))
        algorithm = der.write_sequence(
            der.write_oid(_GCM_OIDS[self.key_bytes]), der.write(_PRIMITIVE_SEQUENCE, parameters)
        )
        info = der.write_sequence(der.write_oid(_DATA), algorithm, der.write(der.CONTEXT_0, self.ciphertext))
        recipients = sorted(_write_recipient(recipient) for recipient in self.recipients)
        enveloped = der.write_sequence(der.write_unsigned(0), der.write(der.SET, b"".join(recipients)), info)
        return der.write_sequence(der.write_oid(_ENVELOPED_DATA), der.write(der.CONSTRUCTED_0, enveloped))


def _recipient(tag: int, content: bytes) -> EnvelopeRecipient:
    if tag != der.SEQUENCE:
        raise InvalidDerError("envelope: recipient")
    values = der.items(content)
    if der.unsigned(_take(values, der.INTEGER)) != 0:
        raise InvalidDerError("envelope: version of a recipient")
    issuer_and_serial = _take(values, der.SEQUENCE)
    transport = _transport(_take(values, der.SEQUENCE))
    encrypted_key = _take(values, der.OCTET_STRING)
    _finish(values)
    return EnvelopeRecipient(issuer_and_serial, transport, encrypted_key)


def _write_recipient(recipient: EnvelopeRecipient) -> bytes:
    return der.write_sequence(
        der.write_unsigned(0),
        der.write(der.SEQUENCE, recipient.issuer_and_serial),
        _write_transport(recipient.transport),
        der.write(der.OCTET_STRING, recipient.encrypted_key),
    )


def _transport(content: bytes) -> KeyTransport:
    """Read an AlgorithmIdentifier: RSA with NULL or nothing, or OAEP with SHA-256 throughout."""
    for transport in KeyTransport:
        _, known = der.read(_write_transport(transport))
        if content == known:
            return transport
    if content == der.write_oid(_RSA) + der.write(der.NULL, b""):
        return KeyTransport.PKCS1_V1_5
    raise InvalidDerError("envelope: key transport")


def _write_transport(transport: KeyTransport) -> bytes:
    if transport is KeyTransport.PKCS1_V1_5:
        return der.write_sequence(der.write_oid(_RSA))
    digest = der.write_sequence(der.write_oid(_SHA256))
    mask = der.write_sequence(der.write_oid(_MGF1), digest)
    parameters = der.write_sequence(der.write(der.CONSTRUCTED_0, digest), der.write(der.CONSTRUCTED_1, mask))
    return der.write_sequence(der.write_oid(_OAEP), parameters)


def _gcm(content: bytes) -> tuple[int, bytes]:
    """Read the content's AlgorithmIdentifier: size of the key, and nonce."""
    values = der.items(content)
    oid = der.dotted(_take(values, der.OBJECT_IDENTIFIER))
    if oid not in _GCM_KEY_BYTES:
        raise InvalidDerError(f"envelope: content encryption {oid} is not AES-GCM")
    parameters = der.items(_inner(_take(values, _PRIMITIVE_SEQUENCE), der.SEQUENCE))
    _finish(values)
    nonce, tag_bytes = _take(parameters, _NONCE), der.unsigned(_take(parameters, der.INTEGER))
    _finish(parameters)
    if len(nonce) != NONCE_BYTES or tag_bytes != TAG_BYTES:
        raise InvalidDerError("envelope: sizes of nonce and tag")
    return _GCM_KEY_BYTES[oid], nonce


def _sealed(info: Iterator[tuple[int, bytes]]) -> bytes:
    """Read the content: the bytes under the tag, or, in older writers, one OCTET STRING inside of it."""
    match next(info, None):
        case (der.CONTEXT_0, content):
            return content
        case (der.CONSTRUCTED_0, content):
            return _inner(content, der.OCTET_STRING)
        case _:
            raise InvalidDerError("envelope: content")


def _content(data: bytes) -> bytes:
    return _inner(data, der.SEQUENCE)


def _inner(data: bytes, wanted: int) -> bytes:
    tag, content = der.read(data)
    if tag != wanted:
        raise InvalidDerError("envelope: wrong type")
    return content


def _take(values: Iterator[tuple[int, bytes]], wanted: int) -> bytes:
    tag, content = next(values, (None, b""))
    if tag != wanted:
        raise InvalidDerError("envelope: a value is missing or has the wrong type")
    return content


def _require_oid(values: Iterator[tuple[int, bytes]], wanted: str) -> None:
    oid = der.dotted(_take(values, der.OBJECT_IDENTIFIER))
    if oid != wanted:
        raise InvalidDerError(f"envelope: {oid} instead of {wanted}")


def _finish(values: Iterator[tuple[int, bytes]]) -> None:
    if next(values, None) is not None:
        raise InvalidDerError("envelope: more values than expected")
