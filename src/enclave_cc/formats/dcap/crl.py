"""Certificate revocation lists of the SGX PKI (same profile as the certificates)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import SignatureAlgorithmOID

from enclave_cc.formats.dcap.certificates import CertificateError

if TYPE_CHECKING:
    import datetime as dt

    from enclave_cc.formats.dcap.certificates import Certificate

# The largest real list has a few kilobytes; each entry takes about 50 bytes.
_MAX_CRL_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list whose signature by its issuer was checked."""

    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    serials: frozenset[int]

    @classmethod
    def verified(cls, der: bytes, issuer: Certificate) -> RevocationList:
        """Read a list that `issuer` signed; CertificateError for any other."""
        if len(der) > _MAX_CRL_BYTES:
            raise CertificateError("revocation list: too long")
        parsed = x509.load_der_x509_crl(der)
        if parsed.issuer != issuer.parsed.subject:
            raise CertificateError("revocation list: another issuer")
        if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise CertificateError("revocation list: not signed with ECDSA and SHA-256")
        if not parsed.is_signature_valid(issuer.public_key):
            raise CertificateError("revocation list: the signature does not match")
        if any(extension.critical for extension in parsed.extensions):
            raise CertificateError("revocation list: unknown critical extension")
        parsed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        if parsed.next_update_utc is None:
            raise CertificateError("revocation list: no next update")
        return cls(
            number=parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
            this_update=parsed.last_update_utc,
            next_update=parsed.next_update_utc,
            serials=frozenset(entry.serial_number for entry in parsed),
        )
