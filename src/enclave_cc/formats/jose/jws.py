"""
Compact JWS with ES256 and nothing else (RFC 7515, RFC 7518 §3.4).

The verifier brings the key, so the algorithm is fixed before a byte of the token is read: a
header that names another one, or that demands extensions (``crit``), is refused even when the
signature is good. Keys inside the header are never trusted here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHM: Final = "ES256"
_INTEGER_BYTES: Final = 32
_SEGMENTS: Final = 3
# An attestation token with certificates and runtime data is under 32 KiB; no header carries more.
MAX_TOKEN_CHARS: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class VerifiedJws:
    """Header and payload of a token whose signature was good."""

    header: dict[str, object]
    payload: bytes


def sign_es256(payload: bytes, key: ec.EllipticCurvePrivateKey, *, header: Mapping[str, object]) -> str:
    """Sign with P-256; ``header`` holds the members besides ``alg``."""
    _require_p256(key.curve)
    protected = json.dumps({**header, "alg": _ALGORITHM}, separators=(",", ":")).encode()
    signing_input = f"{base64url.encode(protected)}.{base64url.encode(payload)}"
    r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(SHA256())))
    signature = r.to_bytes(_INTEGER_BYTES, "big") + s.to_bytes(_INTEGER_BYTES, "big")
    return f"{signing_input}.{base64url.encode(signature)}"


def verify_es256(token: str, key: ec.EllipticCurvePublicKey) -> VerifiedJws:
    """
    Verify a compact JWS; raise ``JoseError`` unless everything holds.

    (0) the text is bounded and has three segments of canonical base64url;
    (1) the signature is 64 bytes and good under ``key``;
    (2) the header, read only now, names ES256 and no ``crit``.
    """
    _require_p256(key.curve)
    protected, payload, signature = _segments(token)
    _verify_signature(token.rpartition(".")[0], signature, key)
    return VerifiedJws(_header(protected), payload)


def _segments(token: str) -> tuple[bytes, bytes, bytes]:
    if len(token) > MAX_TOKEN_CHARS:
        raise JoseError("the token is too long")
    parts = token.split(".", _SEGMENTS)
    if len(parts) != _SEGMENTS:
        raise JoseError("the token does not have three segments")
    protected, payload, signature = (base64url.decode(part) for part in parts)
    return protected, payload, signature


def _verify_signature(signing_input: str, signature: bytes, key: ec.EllipticCurvePublicKey) -> None:
    if len(signature) != 2 * _INTEGER_BYTES:
        raise JoseError("an ES256 signature has 64 bytes")
    r, s = (int.from_bytes(half, "big") for half in (signature[:_INTEGER_BYTES], signature[_INTEGER_BYTES:]))
    try:
        key.verify(encode_dss_signature(r, s), signing_input.encode("ascii"), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise JoseError("the signature is not good") from error


def _header(protected: bytes) -> dict[str, object]:
    try:
        header = loads(protected, max_bytes=MAX_TOKEN_CHARS)
    except InvalidJsonError as error:
        raise JoseError("the header is not JSON") from error
    if not isinstance(header, dict) or header.get("alg") != _ALGORITHM:
        raise JoseError("the header does not name ES256")
    if "crit" in header or "b64" in header:
        raise JoseError("the header demands extensions")
    return header


def _require_p256(curve: ec.EllipticCurve) -> None:
    if not isinstance(curve, ec.SECP256R1):
        raise JoseError("ES256 needs a P-256 key")
