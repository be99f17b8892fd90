"""
Time stamps (RFC 3161) over a signature: when it existed, by the word of a pinned authority.

Rekor 2 states no time, so keyless signatures bring these along. Only DER is read, only the members that
decide something, and certificates count only if they lead to what the trust root pins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from enclave_cc.formats import der
from enclave_cc.formats.sigstore.authority import require_valid, verify_chain
from enclave_cc.formats.sigstore.certificate import CertificateError, extended_purposes, load

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cryptography import x509

    from enclave_cc.formats.sigstore.authority import Authority

_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# The hash of a signature algorithm; RSA may leave it to the digest algorithm.
_SIGNATURES: Final = {
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
}
_RSA: Final = "1.2.840.113549.1.1.1"
_BY_NAME: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_GENERALIZED_TIME: Final = 0x18
_CONTEXT_0: Final = 0xA0
_GRANTED: Final = (0, 1)
_VERSION: Final = 1
_MAX_CERTIFICATES: Final = 8
MAX_TIMESTAMP_BYTES: Final = 32 << 10


@dataclass(frozen=True, slots=True)
class _SignerInfo:
    """The one SignerInfo (RFC 5652, 5.3), which names its certificate by issuer and serial number."""

    issuer: bytes
    serial: int
    digest_name: str
    attributes: bytes
    signature_name: str
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        members = list(der.items(data))
        if len(members) < 6 or members[3][0] != _CONTEXT_0:  # noqa: PLR2004  # with attributes there are six
            raise ValueError("a time stamp signed in another way")
        issuer, serial = _parts(der.write(*members[1]), 2)
        digest_name = _hash_name(members[2][1])
        oid = der.dotted(_first(members[4][1]))
        name = digest_name if oid == _RSA else _SIGNATURES.get(oid)
        if name is None:
            raise ValueError("a time stamp signed with an unknown algorithm")
        return cls(
            issuer=der.write(*issuer),
            serial=int.from_bytes(serial[1], "big", signed=True),
            digest_name=digest_name,
            attributes=members[3][1],
            signature_name=name,
            signature=members[5][1],
        )

    def made_by(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is the one named, and its key signed the attributes."""
        if (certificate.issuer.public_bytes(), certificate.serial_number) != (self.issuer, self.serial):
            return False
        message, algorithm = der.write(der.SET, self.attributes), _BY_NAME[self.signature_name]
        try:
            match certificate.public_key():
                case ec.EllipticCurvePublicKey() as key:
                    key.verify(self.signature, message, ec.ECDSA(algorithm))
                case rsa.RSAPublicKey() as key:
                    key.verify(self.signature, message, padding.PKCS1v15(), algorithm)
                case _:
                    return False
        except (InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A time stamp as it was found; ``verify`` says whether it counts."""

    info: bytes
    signer: _SignerInfo
    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a TimeStampResp; raise ``ValueError`` for any other shape than the one that is verified."""
        if len(data) > MAX_TIMESTAMP_BYTES:
            raise ValueError("a time stamp that is too long")
        status, token = _parts(data, 2)
        if der.unsigned(_first(status[1])) not in _GRANTED:
            raise ValueError("a time stamp that was not granted")
        kind, explicit = _parts(der.write(*token), 2)
        if der.dotted(kind[1]) != _SIGNED_DATA:
            raise ValueError("a time stamp that is not signed")
        members = list(der.items(der.read(explicit[1])[1]))
        if len(members) not in (4, 5) or members[-1][0] != der.SET:
            raise ValueError("a time stamp of another shape")
        certificates = members[3][1] if len(members) == 5 else b""  # noqa: PLR2004  # as above
        (signer,) = der.items(members[-1][1])
        return cls(_content(members[2][1]), _SignerInfo.parse(signer[1]), _certificates(certificates))

    def verify(self, signature: bytes, authorities: Collection[Authority]) -> dt.datetime:
        """
        Verify that a pinned authority saw ``signature``; return when.

        (1) The signed attributes are about this content (RFC 5652, 5.4 and 11).
        (2) The content is about this signature: its imprint is the signature's hash (RFC 3161, 2.4.2).
        (3) A certificate for time stamps, and for nothing else, made the signature over the attributes.
        (4) That certificate is of a pinned authority and held at the time.

        Raises ``ValueError``.
        """
        # (1) The attributes.
        attributes = dict(_attributes(self.signer.attributes))
        digest = hashlib.new(self.signer.digest_name, self.info).digest()
        if attributes.get(_CONTENT_TYPE) != der.write_oid(_TST_INFO):
            raise ValueError("a time stamp over another kind of content")
        if attributes.get(_MESSAGE_DIGEST) != der.write(der.OCTET_STRING, digest):
            raise ValueError("a time stamp over another content")
        # (2) The imprint.
        when = _imprinted(self.info, signature)
        # (3), then (4): a pinned certificate or one that came along.
        # Of several that came along under one name and key only the first counts: each costs a search.
        brought = [one for one in self.certificates if self.signer.made_by(one)][:1]
        for authority in authorities:
            pinned = [
                one for one in (*authority.intermediates, *authority.anchors) if self.signer.made_by(one)
            ]
            for candidate in (*pinned, *brought):
                if _vouched(candidate, authority, self.certificates, when):
                    return when
        raise ValueError("a time stamp of an authority that is not pinned")


def _vouched(
    certificate: x509.Certificate,
    authority: Authority,
    offered: tuple[x509.Certificate, ...],
    when: dt.datetime,
) -> bool:
    purpose = ExtendedKeyUsageOID.TIME_STAMPING
    try:
        if extended_purposes(certificate) != [purpose] or not authority.covers(when):
            return False
        require_valid(certificate, when)
        if certificate not in authority.anchors:
            verify_chain(certificate, [authority], when=when, purpose=purpose, offered=offered)
    except CertificateError:
        return False
    return True


def _imprinted(info: bytes, signature: bytes) -> dt.datetime:
    """Compare the imprint with the signature; return the time beside it."""
    members = list(der.items(der.read(info)[1]))
    if len(members) < 5 or der.unsigned(members[0][1]) != _VERSION:  # noqa: PLR2004  # five members are mandatory
        raise ValueError("a time stamp of another version")
    algorithm, imprint = _parts(der.write(*members[2]), 2)
    if imprint[1] != hashlib.new(_hash_name(algorithm[1]), signature).digest():
        raise ValueError("a time stamp of another signature")
    tag, text = members[4]
    if tag != _GENERALIZED_TIME:
        raise ValueError("a time stamp without a time")
    whole = text.decode("ascii").removesuffix("Z").partition(".")[0]
    return dt.datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)


def _attributes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each attribute with its one value; several of one kind, or none, are refused."""
    seen = set()
    for item in der.items(data):
        kind, values = _parts(der.write(*item), 2)
        name = der.dotted(kind[1])
        (value,) = der.items(values[1])
        if name in seen:
            raise ValueError("a time stamp with an attribute twice")
        seen.add(name)
        yield name, der.write(*value)


def _content(data: bytes) -> bytes:
    kind, explicit = _parts(der.write(der.SEQUENCE, data), 2)
    tag, content = der.read(explicit[1])
    if der.dotted(kind[1]) != _TST_INFO or tag != der.OCTET_STRING:
        raise ValueError("a time stamp with another content")
    return content


def _certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    found = [der.write(*item) for item in der.items(data)]
    return tuple(load(one) for one in found[:_MAX_CERTIFICATES])


def _hash_name(algorithm: bytes) -> str:
    name = _HASHES.get(der.dotted(_first(algorithm)))
    if name is None:
        raise ValueError("a time stamp with an unknown hash")
    return name


def _first(content: bytes) -> bytes:
    """Return the content of the first value of several."""
    for _, value in der.items(content):
        return value
    raise ValueError("a time stamp of another shape")


def _parts(data: bytes, count: int) -> list[tuple[int, bytes]]:
    """Read a SEQUENCE of so many values."""
    tag, content = der.read(data)
    parts = list(der.items(content))
    if tag != der.SEQUENCE or len(parts) != count:
        raise ValueError("a time stamp of another shape")
    return parts
