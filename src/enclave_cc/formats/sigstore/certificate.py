"""
A signing certificate of Fulcio: who its holder was, and which provider of identities said so.

The profile is read whole or refused: https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from enclave_cc.formats import der
from enclave_cc.formats.signatures.public_key import PublicKey

MAX_CERTIFICATE_BYTES: Final = 16 << 10
# Fulcio's arc; version 1 holds the raw text, version 2 a DER UTF8String.
_ISSUER_V1: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OTHER_NAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_UTF8_STRING: Final = 0x0C

UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


class CertificateError(ValueError):
    """A certificate has not the shape its place asks for."""


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """What one certificate says; nothing of it is vouched for before its chain is."""

    parsed: x509.Certificate
    key: PublicKey
    identity: str
    issuer: str

    @classmethod
    def from_der(cls, data: bytes) -> Self:
        """Read a certificate; raise ``CertificateError`` for any other profile than Fulcio's."""
        parsed = load(data)
        extensions = extensions_of(parsed)
        try:
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
            purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound as error:
            raise CertificateError(f"a signing certificate without {error.oid.dotted_string}") from error
        if not usage.digital_signature or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
            raise CertificateError("the certificate is not for signing code")
        if is_authority(extensions):
            raise CertificateError("the certificate is one of an authority")
        return cls(parsed, _key(parsed), _identity(names), _issuer(extensions))

    @property
    def pem(self) -> bytes:
        """Return the certificate as logs keep it."""
        return self.parsed.public_bytes(Encoding.PEM)


def load(data: bytes) -> x509.Certificate:
    """Read DER of version 3 without unknown critical extensions; raise ``CertificateError``."""
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise CertificateError("a certificate that is too long")
    try:
        parsed = x509.load_der_x509_certificate(data)
        version = parsed.version
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError("not a certificate") from error
    if version is not x509.Version.v3:
        raise CertificateError("a certificate of another version than 3")
    for extension in extensions_of(parsed):
        if extension.critical and extension.oid not in UNDERSTOOD:
            raise CertificateError(f"an unknown critical extension {extension.oid.dotted_string}")
    return parsed


def extensions_of(parsed: x509.Certificate) -> x509.Extensions:
    """Read the extensions; raise ``CertificateError`` for malformed ones."""
    try:
        return parsed.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError("malformed certificate extensions") from error


def extended_purposes(parsed: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """List what a certificate is for, nothing if it does not say."""
    try:
        return list(extensions_of(parsed).get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def is_authority(extensions: x509.Extensions) -> bool:
    """Tell whether a certificate may issue others."""
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(parsed: x509.Certificate) -> PublicKey:
    try:
        return PublicKey.of(parsed.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("a certificate with a key of an unknown kind") from error


def _identity(names: x509.SubjectAlternativeName) -> str:
    """Return the one name; with two of them a policy could match the wrong one."""
    if len(names) != 1:
        raise CertificateError("a certificate with more than one identity")
    match names[0]:
        case x509.RFC822Name(value=text) | x509.UniformResourceIdentifier(value=text):
            return text
        case x509.OtherName(type_id=kind, value=value) if kind == _OTHER_NAME:
            return _utf8(value)
        case _:
            raise CertificateError("a certificate with an identity of an unknown kind")


def _issuer(extensions: x509.Extensions) -> str:
    found = set()
    for oid, read in ((_ISSUER_V1, _raw), (_ISSUER_V2, _utf8)):
        try:
            value = extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            continue
        found.add(read(value.public_bytes()))
    if len(found) != 1:
        raise CertificateError("a certificate without exactly one issuer of identities")
    return found.pop()


def _raw(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CertificateError("a certificate with text that is not UTF-8") from error


def _utf8(value: bytes) -> str:
    try:
        tag, content = der.read(value)
    except ValueError as error:
        raise CertificateError("a certificate with a malformed text") from error
    if tag != _UTF8_STRING:
        raise CertificateError("a certificate with a malformed text")
    return _raw(content)
