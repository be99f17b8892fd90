"""Certificates of the SGX PKI: the shapes and roles that the verifier accepts, nothing more.

Profile: "Intel SGX PCK Certificate and CRL Profile Specification". Chains have a fixed length and each
place in a chain has a fixed role, so that no certificate can stand in for another. `cryptography` parses
parts of a certificate only when they are read and raises many kinds of errors then; `verify` treats every
one of them as a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from enclave_cc.formats.sgx.pck_extension import SGX_EXTENSION_OID

if TYPE_CHECKING:
    import datetime as dt

ECDSA_SHA256: Final = ec.ECDSA(hashes.SHA256())
_SGX_EXTENSION: Final = x509.ObjectIdentifier(SGX_EXTENSION_OID)
_UNDERSTOOD_CRITICAL: Final = frozenset({ExtensionOID.KEY_USAGE, ExtensionOID.BASIC_CONSTRAINTS})
# A chain of three has about 2.5 kB per certificate in PEM.
_MAX_CHAIN_CHARS: Final = 32 << 10
_MAX_CHAIN_LENGTH: Final = 4
_RAW_BYTES: Final = 32


class CertificateError(ValueError):
    """A certificate or chain has not the shape its place asks for."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the verifier needs to know of one certificate, read once."""

    der: bytes
    subject: str
    common_name: str
    organization: str
    serial: int
    not_before: dt.datetime
    not_after: dt.datetime
    is_ca: bool
    may_sign_certificates: bool
    may_sign_data: bool
    public_key: ec.EllipticCurvePublicKey
    sgx_extension: bytes | None
    parsed: x509.Certificate

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Read a certificate of the profile: version 3, P-256, ECDSA with SHA-256, no unknown critical."""
        parsed = x509.load_der_x509_certificate(der)
        key = parsed.public_key()
        if parsed.version is not x509.Version.v3:
            raise CertificateError("certificate: not version 3")
        if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise CertificateError("certificate: not signed with ECDSA and SHA-256")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError("certificate: not a P-256 key")
        for extension in parsed.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD_CRITICAL:
                raise CertificateError(
                    f"certificate: unknown critical extension {extension.oid.dotted_string}"
                )
        usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
        return cls(
            der=der,
            subject=parsed.subject.rfc4514_string(),
            common_name=_one(parsed.subject, NameOID.COMMON_NAME),
            organization=_one(parsed.subject, NameOID.ORGANIZATION_NAME),
            serial=parsed.serial_number,
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            is_ca=parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca,
            may_sign_certificates=usage.key_cert_sign and usage.crl_sign,
            may_sign_data=usage.digital_signature,
            public_key=key,
            sgx_extension=_sgx_extension(parsed),
            parsed=parsed,
        )

    def verify_issued_by(self, issuer: Certificate) -> None:
        """Raise CertificateError unless `issuer` signed this certificate and has its issuer's name."""
        try:
            self.parsed.verify_directly_issued_by(issuer.parsed)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise CertificateError("certificate: not issued by the next one in its chain") from error


def split_chain(pem: str) -> tuple[bytes, ...]:
    """Split a PEM chain into DER certificates; the order is kept."""
    if len(pem) > _MAX_CHAIN_CHARS:
        raise CertificateError("certificate chain: too long")
    chain = x509.load_pem_x509_certificates(pem.encode())
    if len(chain) > _MAX_CHAIN_LENGTH:
        raise CertificateError("certificate chain: too many certificates")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def verify_raw_signature(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Raise InvalidSignature unless `signature` (r‖s, 64 bytes) is right."""
    r = int.from_bytes(signature[:_RAW_BYTES], "big")
    s = int.from_bytes(signature[_RAW_BYTES:], "big")
    key.verify(encode_dss_signature(r, s), data, ECDSA_SHA256)


def _one(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    values = name.get_attributes_for_oid(oid)
    if len(values) != 1 or not isinstance(values[0].value, str):
        raise CertificateError("certificate: a name without exactly one CN and one O")
    return values[0].value


def _sgx_extension(parsed: x509.Certificate) -> bytes | None:
    try:
        value = parsed.extensions.get_extension_for_oid(_SGX_EXTENSION).value
    except x509.ExtensionNotFound:
        return None
    return value.public_bytes()
