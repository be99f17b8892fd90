"""
Sigstore bundles of version 0.3: a signature with all that is needed to verify it offline.

Protobuf's JSON of dev.sigstore.bundle.v1. Only what this project verifies is accepted; a bundle with
something else in it is no signature here, rather than one of which a part was overlooked.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import decode_base64, foreign, read_object
from enclave_cc.formats.signatures.claim import SUMMARY
from enclave_cc.formats.sigstore.bundle_log import read_log_entry
from enclave_cc.formats.sigstore.detached import Content, DetachedSignature
from enclave_cc.formats.sigstore.statement import PAYLOAD_TYPE, pre_authentication_encoding

BUNDLE_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
# The same version as it was first spelled.
_OLD_SPELLING: Final = "application/vnd.dev.sigstore.bundle+json;version=0.3"
# A keyless bundle with proof and timestamp is 10 KiB.
MAX_BUNDLE_BYTES: Final = 256 << 10
_MAX_LOG_ENTRIES: Final = 8
_MAX_TIMESTAMPS: Final = 8

if TYPE_CHECKING:
    from enclave_cc.formats.sigstore.rekor import LogEntry


def parse_bundle(data: bytes, *, artifact: bytes) -> DetachedSignature:
    """
    Read a bundle about ``artifact`` (the manifest's bytes); raise ``InvalidInputError`` (signature-invalid).

    Nothing is verified; a statement inside may turn out to be about another manifest.
    """
    with foreign("signature-invalid", SUMMARY, stage=Stage.VERIFY):
        fields = read_object(data, "bundle", max_bytes=MAX_BUNDLE_BYTES)
        fields.only("mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope")
        if fields.text("mediaType") not in {BUNDLE_MEDIA_TYPE, _OLD_SPELLING}:
            raise fields.error("mediaType", "is not a bundle of version 0.3")
        if fields.has("messageSignature") == fields.has("dsseEnvelope"):
            raise fields.error("dsseEnvelope", "exactly one of messageSignature and dsseEnvelope is needed")
        material = fields.object("verificationMaterial")
        material.only("publicKey", "certificate", "tlogEntries", "timestampVerificationData")
        if fields.has("dsseEnvelope"):
            content, message, body, signature = _envelope(fields.object("dsseEnvelope"))
        else:
            signature = _message_signature(fields.object("messageSignature"), artifact)
            content, message, body = Content.MANIFEST, artifact, artifact
        return DetachedSignature(
            content=content,
            message=message,
            body=body,
            signature=signature,
            certificates=_certificates(material),
            log_entries=_log_entries(material),
            timestamps=_timestamps(material),
        )


def write_bundle(statement: bytes, signature: bytes, *, key_hint: str) -> bytes:
    """Write the bundle of a statement signed with a key: what cosign 3 puts into a registry."""
    envelope = {
        "payload": _text(statement),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": _text(signature)}],
    }
    bundle = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint}},
        "dsseEnvelope": envelope,
    }
    return strict_json.canonical(bundle)


def _envelope(fields: Fields) -> tuple[Content, bytes, bytes, bytes]:
    """DSSE allows several signatures; a sigstore bundle has exactly one."""
    fields.only("payload", "payloadType", "signatures")
    if fields.text("payloadType") != PAYLOAD_TYPE:
        raise fields.error("payloadType", "is not in-toto's")
    entries = fields.array("signatures")
    if len(entries) != 1:
        raise fields.error("signatures", "lists not exactly one signature")
    entry = Fields(entries[0], "bundle.dsseEnvelope.signatures")
    entry.only("sig", "keyid")
    payload = decode_base64(fields.text("payload"), "payload")
    message = pre_authentication_encoding(PAYLOAD_TYPE, payload)
    return Content.STATEMENT, message, payload, decode_base64(entry.text("sig"), "sig")


def _message_signature(fields: Fields, artifact: bytes) -> bytes:
    """Read the signature over the artifact itself; the digest beside it is a hint that must not be wrong."""
    fields.only("messageDigest", "signature")
    digest = fields.object("messageDigest")
    if digest.text("algorithm", default="SHA2_256") == "SHA2_256" and digest.has("digest"):
        stated = decode_base64(digest.text("digest"), "digest")
        if stated != hashlib.sha256(artifact).digest():
            raise digest.error("digest", "is of another artifact")
    return decode_base64(fields.text("signature"), "signature")


def _certificates(material: Fields) -> tuple[bytes, ...]:
    if material.has("publicKey") == material.has("certificate"):
        raise material.error("certificate", "exactly one of publicKey and certificate is needed")
    if not material.has("certificate"):
        # The hint names a key to people; the policy names the keys that count.
        material.object("publicKey").only("hint")
        return ()
    certificate = material.object("certificate")
    certificate.only("rawBytes")
    return (decode_base64(certificate.text("rawBytes"), "certificate"),)


def _log_entries(material: Fields) -> tuple[LogEntry, ...]:
    entries = material.array("tlogEntries")
    if len(entries) > _MAX_LOG_ENTRIES:
        raise material.error("tlogEntries", "lists too many entries")
    return tuple(read_log_entry(Fields(entry, "bundle.tlogEntries")) for entry in entries)


def _timestamps(material: Fields) -> tuple[bytes, ...]:
    data = material.object("timestampVerificationData")
    data.only("rfc3161Timestamps")
    entries = data.array("rfc3161Timestamps")
    if len(entries) > _MAX_TIMESTAMPS:
        raise data.error("rfc3161Timestamps", "lists too many timestamps")
    return tuple(
        decode_base64(Fields(entry, "bundle.timestamp").text("signedTimestamp"), "signedTimestamp")
        for entry in entries
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
