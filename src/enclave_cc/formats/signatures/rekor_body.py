"""What a Rekor v1 entry is about: kinds ``hashedrekord`` and ``dsse``, version 0.0.1."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import decode_base64, read_object

if TYPE_CHECKING:
    from enclave_cc.formats.signatures.detached import DetachedSignature

# A certificate of Fulcio in base64, twice, leaves ample room.
MAX_BODY_BYTES: Final = 64 << 10
_VERSION: Final = "0.0.1"


def verify_about(body: bytes, found: DetachedSignature, signer_pem: bytes) -> None:
    """Raise ``ValueError`` unless an entry is about this signature over this message by this key."""
    fields = read_object(body, "entry", max_bytes=MAX_BODY_BYTES)
    fields.only("apiVersion", "kind", "spec")
    if fields.text("apiVersion") != _VERSION:
        raise fields.error("apiVersion", "is not 0.0.1")
    spec = fields.object("spec")
    match fields.text("kind"):
        case "hashedrekord":
            _verify_hashedrekord(spec, found, signer_pem)
        case "dsse":
            _verify_dsse(spec, found, signer_pem)
        case _:
            raise fields.error("kind", "is neither hashedrekord nor dsse")


def _verify_hashedrekord(spec: Fields, found: DetachedSignature, signer_pem: bytes) -> None:
    _require_hash(spec.object("data").object("hash"), found.message)
    signature = spec.object("signature")
    _require_bytes(signature, "content", found.signature)
    _require_pem(signature.object("publicKey"), "content", signer_pem)


def _verify_dsse(spec: Fields, found: DetachedSignature, signer_pem: bytes) -> None:
    """Compare payload and signature; the envelope's own hash depends on its spelling and adds nothing."""
    _require_hash(spec.object("payloadHash"), found.body)
    entries = spec.array("signatures")
    if len(entries) != 1:
        raise spec.error("signatures", "lists not exactly one signature")
    signature = Fields(entries[0], "entry.spec.signatures")
    _require_bytes(signature, "signature", found.signature)
    _require_pem(signature, "verifier", signer_pem)


def _require_hash(fields: Fields, message: bytes) -> None:
    algorithm, value = fields.text("algorithm"), fields.text("value")
    if algorithm not in {"sha256", "sha384", "sha512"}:
        raise fields.error("algorithm", "is unknown")
    if hashlib.new(algorithm, message).hexdigest() != value:
        raise fields.error("value", "is the hash of another message")


def _require_bytes(fields: Fields, name: str, expected: bytes) -> None:
    if decode_base64(fields.text(name), name) != expected:
        raise fields.error(name, "is another signature")


def _require_pem(fields: Fields, name: str, expected: bytes) -> None:
    if decode_base64(fields.text(name), name).strip() != expected.strip():
        raise fields.error(name, "is another key or certificate")
