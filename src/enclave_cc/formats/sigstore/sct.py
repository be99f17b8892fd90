"""
Signed certificate timestamps inside a certificate (RFC 6962, 3.2 and 3.3).

A log of certificates promised that the certificate is public. Without one, an authority that was made to
issue a certificate in somebody's name would leave no trace.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.certificate_transparency import LogEntryType

from enclave_cc.formats.sigstore.certificate import CertificateError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cryptography.x509.certificate_transparency import SignedCertificateTimestamp

    from enclave_cc.formats.sigstore.rekor import LogKey

_MAX_TIMESTAMPS: Final = 16
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def verify_embedded(
    certificate: x509.Certificate, issuer: x509.Certificate, logs: Collection[LogKey]
) -> None:
    """Require one timestamp of a pinned log over this certificate; raise ``CertificateError``."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
        signed = certificate.tbs_precertificate_bytes
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertificateError("the certificate is in no log of certificates") from error
    try:
        if any(_is_pinned(one, signed, issuer, logs) for one in list(found.value)[:_MAX_TIMESTAMPS]):
            return
    except ValueError as error:
        raise CertificateError("a malformed promise of a log of certificates") from error
    raise CertificateError("no pinned log of certificates promised this one")


def _is_pinned(
    timestamp: SignedCertificateTimestamp, signed: bytes, issuer: x509.Certificate, logs: Collection[LogKey]
) -> bool:
    if timestamp.entry_type is not LogEntryType.PRE_CERTIFICATE:
        return False
    if not isinstance(timestamp.signature_hash_algorithm, hashes.SHA256):
        return False
    milliseconds = _milliseconds(timestamp.timestamp)
    message = signed_bytes(signed, issuer, milliseconds=milliseconds, extensions=timestamp.extension_bytes)
    return any(
        log.log_id == timestamp.log_id
        and log.covers(milliseconds // 1000)
        and log.key.has_signed(message, timestamp.signature)
        for log in logs
    )


def signed_bytes(
    precertificate: bytes, issuer: x509.Certificate, *, milliseconds: int, extensions: bytes = b""
) -> bytes:
    """
    Return what a log signs for a precertificate.

    Version 1 (0), kind certificate_timestamp (0), time, entry kind precert_entry (1), the SHA-256 of the
    issuer's key, the precertificate with a 24-bit length, the extensions with a 16-bit length.
    """
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"".join(
        (
            b"\x00\x00",
            milliseconds.to_bytes(8, "big"),
            b"\x00\x01",
            hashlib.sha256(key).digest(),
            len(precertificate).to_bytes(3, "big"),
            precertificate,
            len(extensions).to_bytes(2, "big"),
            extensions,
        )
    )


def _milliseconds(when: dt.datetime) -> int:
    return (when.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)
