"""
A pinned trust root: sigstore's ``trusted_root.json``, or keys and certificates from a policy.

It says which authorities and logs count and when each was in use. It is the owner's, from the broker; nothing
about it is fetched or refreshed from anywhere else.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import decode_base64, foreign, read_object
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.formats.sigstore.authority import Authority
from enclave_cc.formats.sigstore.certificate import load
from enclave_cc.formats.sigstore.rekor import LogKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

MAX_TRUSTED_ROOT_BYTES: Final = 1 << 20
_MEDIA_TYPES: Final = frozenset(
    {
        "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "application/vnd.dev.sigstore.trustedroot.v0.1+json",
        "application/vnd.dev.sigstore.trustedroot.v0.2+json",
    }
)
# The public instance has two or three of each.
_MAX_ENTRIES: Final = 64
_SUMMARY: Final = "the pinned trust root is malformed"


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Whose certificates, logs and timestamps count; no log of certificates means none is asked for."""

    authorities: tuple[Authority, ...] = ()
    logs: tuple[LogKey, ...] = ()
    certificate_logs: tuple[LogKey, ...] = ()
    timestamp_authorities: tuple[Authority, ...] = ()


def parse_trusted_root(data: bytes) -> TrustRoot:
    """Read ``trusted_root.json``; raise ``InvalidInputError`` (trust-root-invalid)."""
    with foreign("trust-root-invalid", _SUMMARY, stage=Stage.POLICY):
        fields = read_object(data, "trusted root", max_bytes=MAX_TRUSTED_ROOT_BYTES)
        fields.only("mediaType", "tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities")
        if fields.text("mediaType") not in _MEDIA_TYPES:
            raise fields.error("mediaType", "is not a trusted root of a known version")
        root = TrustRoot(
            authorities=tuple(_authority(entry) for entry in _entries(fields, "certificateAuthorities")),
            logs=tuple(_logs(fields, "tlogs")),
            certificate_logs=tuple(_logs(fields, "ctlogs")),
            timestamp_authorities=tuple(
                _authority(entry) for entry in _entries(fields, "timestampAuthorities")
            ),
        )
        if fields.array("ctlogs") and not root.certificate_logs:
            # Falling back to "no log of certificates is asked for" would be weaker than written.
            raise fields.error("ctlogs", "holds no key of a known kind")
        return root


def _entries(fields: Fields, name: str) -> tuple[Fields, ...]:
    entries = fields.array(name)
    if len(entries) > _MAX_ENTRIES:
        raise fields.error(name, "lists too many entries")
    return tuple(Fields(entry, f"trusted root.{name}") for entry in entries)


def _authority(fields: Fields) -> Authority:
    fields.only("subject", "uri", "certChain", "validFor", "operator")
    chain = fields.object("certChain")
    chain.only("certificates")
    certificates = tuple(_certificate(entry) for entry in _entries(chain, "certificates"))
    if not certificates:
        raise chain.error("certificates", "is empty")
    start, end = _valid_for(fields)
    return Authority((certificates[-1],), certificates[:-1], start, end)


def _certificate(fields: Fields) -> x509.Certificate:
    fields.only("rawBytes")
    return load(decode_base64(fields.text("rawBytes"), "rawBytes"))


def _logs(fields: Fields, name: str) -> Iterator[LogKey]:
    """Read the logs; one whose key is of an unknown kind is left out, so that nothing verifies under it."""
    for entry in _entries(fields, name):
        entry.only("baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator")
        key = entry.object("publicKey")
        key.only("rawBytes", "keyDetails", "validFor")
        start, end = _valid_for(key)
        if start is None:
            raise key.error("validFor", "has no start")
        der = decode_base64(key.text("rawBytes"), "rawBytes")
        try:
            public = PublicKey.from_der(der)
        except ValueError:
            continue
        log_id = entry.object("logId")
        log_id.only("keyId")
        yield LogKey(
            public,
            named=decode_base64(log_id.text("keyId", default=""), "logId"),
            start=int(start.timestamp()),
            end=None if end is None else int(end.timestamp()),
        )


def _valid_for(fields: Fields) -> tuple[dt.datetime | None, dt.datetime | None]:
    period = fields.object("validFor")
    period.only("start", "end")
    return _time(period, "start"), _time(period, "end")


def _time(fields: Fields, name: str) -> dt.datetime | None:
    if not fields.has(name):
        return None
    when = dt.datetime.fromisoformat(fields.text(name))
    if when.tzinfo is None:
        raise fields.error(name, "has no time zone")
    return when
