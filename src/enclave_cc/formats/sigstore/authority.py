"""
Authorities that issue signing certificates, and the chain from a certificate to a pinned one.

RFC 5280, clause 6, as far as such short chains need it: each certificate issued by the next, each valid at
the time in question, each authority allowed to be one. No revocation: signing certificates live minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from enclave_cc.formats.sigstore.certificate import (
    CertificateError,
    extensions_of,
    is_authority,
    load,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection

    from cryptography.x509.oid import ObjectIdentifier

_MAX_DEPTH: Final = 4
_MAX_PEM_CERTIFICATES: Final = 16
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class Authority:
    """A pinned authority: where chains may end, what may stand between, and when it was in use."""

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    start: dt.datetime | None = None
    end: dt.datetime | None = None

    def covers(self, when: dt.datetime) -> bool:
        """Tell whether the authority was in use at a time."""
        return (self.start is None or self.start <= when) and (self.end is None or when <= self.end)


def verify_chain(
    leaf: x509.Certificate,
    authorities: Collection[Authority],
    *,
    when: dt.datetime,
    purpose: ObjectIdentifier,
    offered: tuple[x509.Certificate, ...] = (),
) -> x509.Certificate:
    """
    Find a chain from ``leaf`` to a pinned authority that held at ``when``; return the leaf's issuer.

    ``offered`` are intermediates that came with the signature: untrusted, like the leaf. Raises
    ``CertificateError``.
    """
    require_valid(leaf, when)
    for authority in authorities:
        if authority.covers(when):
            issuer = _issuer_in(leaf, authority, offered, when, purpose)
            if issuer is not None:
                return issuer
    raise CertificateError("the certificate is not of a pinned authority")


def _issuer_in(
    leaf: x509.Certificate,
    authority: Authority,
    offered: tuple[x509.Certificate, ...],
    when: dt.datetime,
    purpose: ObjectIdentifier,
) -> x509.Certificate | None:
    """
    Search upwards, level by level; ``depth`` counts the authorities below the one looked for (path length).

    No certificate is reached twice: strangers may offer ones that issued each other in every order.
    """
    reached, waiting = [(leaf, leaf)], [*authority.intermediates, *offered]
    for depth in range(_MAX_DEPTH):
        for child, first in reached:
            for anchor in authority.anchors:
                if _may_issue(anchor, child, when, purpose, depth):
                    return anchor if child is leaf else first
        above = []
        for child, first in reached:
            found = [one for one in waiting if one != child and _may_issue(one, child, when, purpose, depth)]
            for issuer in found:
                waiting.remove(issuer)
                above.append((issuer, issuer if child is leaf else first))
        reached = above
    return None


def _may_issue(
    issuer: x509.Certificate,
    child: x509.Certificate,
    when: dt.datetime,
    purpose: ObjectIdentifier,
    depth: int,
) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
        require_valid(issuer, when)
        _require_authority(issuer, purpose, depth)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return isinstance(child.signature_hash_algorithm, _HASHES)


def require_valid(certificate: x509.Certificate, when: dt.datetime) -> None:
    """Raise ``CertificateError`` for a time outside of a certificate's validity."""
    if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
        raise CertificateError("the certificate was not valid when it signed")


def _require_authority(certificate: x509.Certificate, purpose: ObjectIdentifier, depth: int) -> None:
    extensions = extensions_of(certificate)
    if not is_authority(extensions):
        raise CertificateError("the issuer is no authority")
    limit = extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and depth > limit:
        raise CertificateError("the chain is longer than an authority allows")
    for extension in extensions:
        match extension.value:
            case x509.KeyUsage() as usage if not usage.key_cert_sign:
                raise CertificateError("the issuer may not sign certificates")
            case x509.ExtendedKeyUsage() as purposes if purpose not in purposes:
                raise CertificateError("the issuer is for another purpose")
            case _ if extension.oid == ExtensionOID.NAME_CONSTRAINTS:
                raise CertificateError("the issuer constrains names")
            case _:
                pass


def load_pem_authority(data: bytes) -> Authority:
    """Read pinned certificates from PEM text; each may end a chain. Raises ``ValueError``."""
    found = x509.load_pem_x509_certificates(data)
    if len(found) > _MAX_PEM_CERTIFICATES:
        raise CertificateError("more certificates than an authority has")
    return Authority(tuple(load(one.public_bytes(Encoding.DER)) for one in found))
