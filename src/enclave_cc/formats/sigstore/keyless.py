"""
Keyless signatures, verified offline against a pinned trust root.

Somebody proved an identity to a certificate authority, got a certificate for a key that lived for
minutes, and signed; logs kept all of it. What is pinned is the authority, the logs, and who it has to be.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from cryptography.x509.oid import ExtendedKeyUsageOID

from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.formats.sigstore import sct
from enclave_cc.formats.sigstore.authority import verify_chain
from enclave_cc.formats.sigstore.certificate import CertificateError, SigningCertificate, load
from enclave_cc.formats.sigstore.rekor import LogError, verify_entry
from enclave_cc.formats.sigstore.timestamp import TimeStamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from enclave_cc.formats.signatures.signer import SignerIdentity
    from enclave_cc.formats.sigstore.detached import DetachedSignature
    from enclave_cc.formats.sigstore.trusted_root import TrustRoot

LOG_RULE: Final = "image.signature.log"
CERTIFICATE_RULE: Final = "image.signature.certificate"
CERTIFICATE_LOG_RULE: Final = "image.signature.certificate-log"
SIGNER_RULE: Final = "image.signature.signer"
ISSUER_RULE: Final = "image.signature.issuer"
KEY_RULE: Final = "image.signature.key"


def verify_keyless(found: DetachedSignature, root: TrustRoot, signer: SignerIdentity) -> Iterator[Finding]:
    """
    Verify a signature by a certificate; yield the finding of each step, ending with the first that failed.

    (1) The certificate has Fulcio's profile: for signing code, one identity, one issuer of identities.
    (2) A pinned log saw this signature by this certificate: ``rekor.verify_entry``. It or a pinned authority
        for time stamps states when: ``timestamp.TimeStamp.verify``.
    (3) At every such time the certificate was valid and issued by a pinned authority:
        ``authority.verify_chain``.
    (4) A pinned log of certificates promised the certificate, where the trust root has such logs.
    (5) The certificate's identity is the one asked for, (6) vouched for by the issuer asked for.
    (7) The certificate's key made the signature.
    """
    # (1) The certificate's profile.
    try:
        certificate, offered = _certificates(found)
    except CertificateError as error:
        yield _failed(CERTIFICATE_RULE, "a signing certificate of Fulcio's profile", error)
        return
    # (2) The log, and the times that it and pinned authorities vouch for.
    try:
        times = _times(found, certificate, root)
    except LogError as error:
        yield _failed(LOG_RULE, "an entry with its time in a pinned log", error)
        return
    shown = ", ".join(when.isoformat() for when in times)
    yield Finding(LOG_RULE, Outcome.PASSED, "an entry with its time in a pinned log", shown)
    # (3) The chain at each of them.
    try:
        issuer = _issuer(certificate, offered, root, times)
    except CertificateError as error:
        yield _failed(CERTIFICATE_RULE, "a certificate of a pinned authority, valid when it signed", error)
        return
    subject = certificate.parsed.issuer.rfc4514_string()
    yield Finding(CERTIFICATE_RULE, Outcome.PASSED, "a certificate of a pinned authority", subject)
    # (4) The log of certificates.
    yield _certificate_log(certificate.parsed, issuer, root)
    # (5) Who it was, (6) and who says so.
    yield equal(SIGNER_RULE, expected=signer.identity, actual=certificate.identity)
    yield equal(ISSUER_RULE, expected=signer.oidc_issuer, actual=certificate.issuer)
    # (7) The signature itself.
    fits = certificate.key.has_signed(found.message, found.signature)
    yield Finding(
        KEY_RULE,
        Outcome.PASSED if fits else Outcome.FAILED,
        "a signature by the certificate's key",
        certificate.key.fingerprint if fits else "a signature by another key",
    )


def _certificates(found: DetachedSignature) -> tuple[SigningCertificate, tuple[x509.Certificate, ...]]:
    if not found.certificates:
        raise CertificateError("a signature without a certificate")
    first, *offered = found.certificates
    return SigningCertificate.from_der(first), tuple(load(data) for data in offered)


def _times(
    found: DetachedSignature, certificate: SigningCertificate, root: TrustRoot
) -> tuple[dt.datetime, ...]:
    """Return all times that were proven, one at least; raise ``LogError``."""
    stamped = _stamped(found, root)
    seconds = int(stamped[0].timestamp()) if stamped else None
    problem: LogError | None = None
    for entry in found.log_entries:
        try:
            stated = verify_entry(entry, found, certificate.pem, root.logs, stamped=seconds)
        except LogError as error:
            problem = problem or error
            continue
        promised = () if stated is None else (dt.datetime.fromtimestamp(stated, tz=dt.UTC),)
        if times := (*promised, *stamped):
            return times
        problem = problem or LogError("neither the log nor a pinned authority states the time")
    raise problem or LogError("there is no log entry")


def _stamped(found: DetachedSignature, root: TrustRoot) -> tuple[dt.datetime, ...]:
    """Return the times of time stamps that count; others prove nothing, and hide nothing."""
    times = []
    for data in found.timestamps:
        try:
            times.append(TimeStamp.parse(data).verify(found.signature, root.timestamp_authorities))
        except ValueError:
            continue
    return tuple(times)


def _issuer(
    certificate: SigningCertificate,
    offered: tuple[x509.Certificate, ...],
    root: TrustRoot,
    times: tuple[dt.datetime, ...],
) -> x509.Certificate:
    issuers = [
        verify_chain(
            certificate.parsed,
            root.authorities,
            when=when,
            purpose=ExtendedKeyUsageOID.CODE_SIGNING,
            offered=offered,
        )
        for when in times
    ]
    return issuers[0]


def _certificate_log(certificate: x509.Certificate, issuer: x509.Certificate, root: TrustRoot) -> Finding:
    if not root.certificate_logs:
        return Finding(
            CERTIFICATE_LOG_RULE, Outcome.PASSED, "nothing: no such log is pinned", "not looked at"
        )
    expected = "a promise of a pinned log of certificates"
    try:
        sct.verify_embedded(certificate, issuer, root.certificate_logs)
    except CertificateError as error:
        return _failed(CERTIFICATE_LOG_RULE, expected, error)
    return Finding(CERTIFICATE_LOG_RULE, Outcome.PASSED, expected, "verified")


def _failed(rule: str, expected: str, error: Exception) -> Finding:
    return Finding(rule, Outcome.FAILED, expected, str(error) or "none")
