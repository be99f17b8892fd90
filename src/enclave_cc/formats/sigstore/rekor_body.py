"""What a log entry is about: kinds ``hashedrekord`` and ``dsse``, 0.0.1 of Rekor 1 and 0.0.2 of Rekor 2."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import decode_base64, read_object

if TYPE_CHECKING:
    from enclave_cc.formats.sigstore.detached import DetachedSignature

# A certificate of Fulcio in base64, twice, leaves ample room.
MAX_BODY_BYTES: Final = 64 << 10
_HASHES: Final = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}


def verify_about(body: bytes, found: DetachedSignature, signer_pem: bytes) -> None:
    """Raise ``ValueError`` unless an entry is about this signature over this message by this key."""
    fields = read_object(body, "entry", max_bytes=MAX_BODY_BYTES)
    fields.only("apiVersion", "kind", "spec")
    spec = fields.object("spec")
    match fields.text("kind"), fields.text("apiVersion"):
        case "hashedrekord", "0.0.1":
            _verify_hashedrekord(spec, found, signer_pem)
        case "dsse", "0.0.1":
            _verify_dsse(spec, found, signer_pem)
        case "hashedrekord", "0.0.2":
            entry = spec.object("hashedRekordV002")
            _require_digest(entry.object("data"), found.message)
            _require_signed(entry.object("signature"), found, signer_pem)
        case "dsse", "0.0.2":
            entry = spec.object("dsseV002")
            _require_digest(entry.object("payloadHash"), found.body)
            _require_signed(_one(entry), found, signer_pem)
        case _:
            raise fields.error("kind", "is neither hashedrekord nor dsse of a known version")


def _verify_hashedrekord(spec: Fields, found: DetachedSignature, signer_pem: bytes) -> None:
    _require_hash(spec.object("data").object("hash"), found.message)
    signature = spec.object("signature")
    _require_bytes(signature, "content", found.signature)
    _require_pem(signature.object("publicKey"), "content", signer_pem)


def _verify_dsse(spec: Fields, found: DetachedSignature, signer_pem: bytes) -> None:
    """Compare payload and signature; the envelope's own hash depends on its spelling and adds nothing."""
    _require_hash(spec.object("payloadHash"), found.body)
    signature = _one(spec)
    _require_bytes(signature, "signature", found.signature)
    _require_pem(signature, "verifier", signer_pem)


def _one(spec: Fields) -> Fields:
    entries = spec.array("signatures")
    if len(entries) != 1:
        raise spec.error("signatures", "lists not exactly one signature")
    return Fields(entries[0], "entry.spec.signatures")


def _require_digest(fields: Fields, message: bytes) -> None:
    algorithm = _HASHES.get(fields.text("algorithm"))
    if algorithm is None:
        raise fields.error("algorithm", "is unknown")
    if hashlib.new(algorithm, message).digest() != decode_base64(fields.text("digest"), "digest"):
        raise fields.error("digest", "is the hash of another message")


def _require_signed(signature: Fields, found: DetachedSignature, signer_pem: bytes) -> None:
    """Compare a signature and its key or certificate, which Rekor 2 keeps as DER."""
    _require_bytes(signature, "content", found.signature)
    verifier = signature.object("verifier")
    kind = "x509Certificate" if verifier.has("x509Certificate") else "publicKey"
    held = decode_base64(verifier.object(kind).text("rawBytes"), kind)
    lines = signer_pem.decode("ascii").strip().splitlines()
    if held != decode_base64("".join(lines[1:-1]), kind):
        raise verifier.error(kind, "is another key or certificate")


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
