"""
Cosign's signatures of version 2: a manifest under a tag derived from the signed digest.

Each layer of that manifest is a payload (what is claimed), with the raw signature over exactly its
bytes in an annotation; certificate, chain and log entry stand in further annotations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_cc.formats.oci.edge import decode_base64, read_object
from enclave_cc.formats.signatures.claim import MAX_PAYLOAD_BYTES
from enclave_cc.formats.sigstore.detached import Content, DetachedSignature
from enclave_cc.formats.sigstore.rekor import MAX_TIME, LogEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.manifest import Manifest

PAYLOAD_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION: Final = "dev.sigstore.cosign/certificate"
CHAIN_ANNOTATION: Final = "dev.sigstore.cosign/chain"
LOG_ANNOTATION: Final = "dev.sigstore.cosign/bundle"

# A signature of RSA-4096 is 512 bytes.
_MAX_SIGNATURE_CHARS: Final = 8192
_MAX_PEM_CHARS: Final = 64 << 10
_MAX_CERTIFICATES: Final = 4
_MAX_LOG_CHARS: Final = 128 << 10
# Whoever may push can add signatures; this bounds what verifying costs.
MAX_SIGNATURES: Final = 64
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def signature_tag(digest: Digest) -> str:
    """Name the tag under which the signatures of a manifest are found."""
    return f"{digest.algorithm}-{digest.hex}.sig"


@dataclass(frozen=True, slots=True)
class SignatureLayer:
    """A payload blob and what stands beside it."""

    payload: Descriptor
    signature: bytes
    certificates: tuple[bytes, ...] = ()
    log_entries: tuple[LogEntry, ...] = ()

    def with_payload(self, payload: bytes) -> DetachedSignature:
        """Join the signature with the bytes it is over."""
        return DetachedSignature(
            content=Content.PAYLOAD,
            message=payload,
            body=payload,
            signature=self.signature,
            certificates=self.certificates,
            log_entries=self.log_entries,
        )


def signature_layers(manifest: Manifest) -> tuple[SignatureLayer, ...]:
    """
    List the signatures in a signature manifest.

    Layers that are no signatures, or whose annotations do not parse, are left out: anybody who may push
    can add one, and that must not hide the others.
    """
    found = []
    for layer in manifest.layers[:MAX_SIGNATURES]:
        if layer.media_type != PAYLOAD_MEDIA_TYPE or layer.size > MAX_PAYLOAD_BYTES:
            continue
        try:
            found.append(_layer(layer))
        except ValueError:
            continue
    return tuple(found)


def _layer(layer: Descriptor) -> SignatureLayer:
    text = layer.annotations.get(SIGNATURE_ANNOTATION, "").replace("\n", "").replace("\r", "")
    if not text or len(text) > _MAX_SIGNATURE_CHARS:
        raise ValueError("no signature")
    log = layer.annotations.get(LOG_ANNOTATION, "")
    return SignatureLayer(
        payload=layer,
        signature=decode_base64(text, "signature"),
        certificates=_certificates(layer.annotations),
        log_entries=(_log_entry(log),) if log else (),
    )


def _certificates(annotations: Mapping[str, str]) -> tuple[bytes, ...]:
    """Read the signer's certificate and the chain that came with it, as DER."""
    pem = annotations.get(CERTIFICATE_ANNOTATION, "")
    if not pem:
        return ()
    text = f"{pem}\n{annotations.get(CHAIN_ANNOTATION, '')}"
    if len(text) > _MAX_PEM_CHARS:
        raise ValueError("certificates that are too long")
    found = x509.load_pem_x509_certificates(text.encode("utf-8"))
    return tuple(one.public_bytes(Encoding.DER) for one in found[:_MAX_CERTIFICATES])


def _log_entry(text: str) -> LogEntry:
    """Read the log's promise, as cosign 2 keeps it: the signed entry and its members."""
    fields = read_object(text.encode("utf-8"), "log entry", max_bytes=_MAX_LOG_CHARS)
    fields.only("SignedEntryTimestamp", "Payload")
    payload = fields.object("Payload")
    payload.only("body", "integratedTime", "logIndex", "logID")
    log_id, when = payload.text("logID"), payload.integer("integratedTime")
    if not _HEX.fullmatch(log_id) or not 0 <= when <= MAX_TIME:
        raise payload.error("logID", "or its time is malformed")
    return LogEntry(
        log_id=bytes.fromhex(log_id),
        log_index=payload.integer("logIndex"),
        integrated_time=when,
        body=decode_base64(payload.text("body"), "body"),
        promise=decode_base64(fields.text("SignedEntryTimestamp"), "SignedEntryTimestamp"),
    )
