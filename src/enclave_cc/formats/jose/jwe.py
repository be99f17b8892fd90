"""
Flattened JWE as the KBS protocol sends resources (RFC 7516, RFC 7518 §4.3 and §4.6).

The content is sealed with A256GCM; its key is wrapped with ECDH-ES+A256KW or RSA-OAEP-256. The
protected header is written byte for byte as every existing client rebuilds it: compact,
``alg``, ``enc``, then the rest sorted. Reading takes the received text as it is. RSA1_5 is not
offered and not accepted.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, PublicJwk, parse_public_jwk

if TYPE_CHECKING:
    from collections.abc import Mapping

ECDH: Final = "ECDH-ES+A256KW"
RSA_OAEP: Final = "RSA-OAEP-256"
_CONTENT: Final = "A256GCM"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_KEY_BYTES: Final = 40
# The header holds two names and one point.
_MAX_HEADER_BYTES: Final = 2048

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def seal(plaintext: bytes, recipient: PublicJwk) -> dict[str, str]:
    """Encrypt to a key; raise ``JoseError`` when the key's ``alg`` is not one we offer."""
    content_key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    header, wrapped = _wrap(content_key, recipient)
    protected = base64url.encode(json.dumps(header, separators=(",", ":")).encode())
    sealed = AESGCM(content_key).encrypt(nonce, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": base64url.encode(wrapped),
        "iv": base64url.encode(nonce),
        "ciphertext": base64url.encode(sealed[:-_TAG_BYTES]),
        "tag": base64url.encode(sealed[-_TAG_BYTES:]),
    }


def unseal(message: object, key: PrivateKey) -> bytes:
    """
    Decrypt; raise ``JoseError`` unless the message is complete, for this key, and authentic.

    One sentence covers a wrong key and a wrong tag: the difference would only help an attacker.
    """
    try:
        fields = Fields(message, "jwe")
        if fields.has("aad") or fields.has("recipients"):
            raise JoseError("the message is not a plain flattened JWE")
        protected = fields.text("protected")
        header = _read_header(protected, fields.raw("header"))
        content_key = _unwrap(header, base64url.decode(fields.text("encrypted_key")), key)
        nonce, sealed, tag = (base64url.decode(fields.text(name)) for name in ("iv", "ciphertext", "tag"))
    except FieldError as error:
        raise JoseError(str(error)) from error
    if len(nonce) != _NONCE_BYTES or len(tag) != _TAG_BYTES or len(content_key) != _KEY_BYTES:
        raise JoseError("a part of the message has the wrong length")
    try:
        return AESGCM(content_key).decrypt(nonce, sealed + tag, protected.encode("ascii"))
    except InvalidTag as error:
        raise JoseError("the message does not open with this key") from error


def _wrap(content_key: bytes, recipient: PublicJwk) -> tuple[dict[str, object], bytes]:
    if isinstance(recipient, EcPublicJwk):
        if recipient.algorithm != ECDH:
            raise JoseError("the EC key is not for ECDH-ES+A256KW")
        return _wrap_ecdh(content_key, recipient)
    if recipient.algorithm != RSA_OAEP:
        raise JoseError("the RSA key is not for RSA-OAEP-256")
    return {"alg": RSA_OAEP, "enc": _CONTENT}, recipient.public_key().encrypt(content_key, _oaep())


def _wrap_ecdh(content_key: bytes, recipient: EcPublicJwk) -> tuple[dict[str, object], bytes]:
    ephemeral = ec.generate_private_key(recipient.curve.parameters)
    point = EcPublicJwk.of(ephemeral.public_key(), algorithm="").to_json()
    header: dict[str, object] = {"alg": ECDH, "enc": _CONTENT, "epk": dict(sorted(point.items()))}
    shared = ephemeral.exchange(ec.ECDH(), recipient.public_key())
    return header, aes_key_wrap(_wrapping_key(shared), content_key)


def _wrapping_key(shared: bytes) -> bytes:
    """Derive the key as RFC 7518 §4.6.2 says, with empty party information."""
    algorithm = ECDH.encode()
    info = struct.pack(">I", len(algorithm)) + algorithm + bytes(8) + struct.pack(">I", 8 * _KEY_BYTES)
    return ConcatKDFHash(SHA256(), _KEY_BYTES, info).derive(shared)


def _read_header(protected: str, unprotected: object) -> Mapping[str, object]:
    """Join both headers; the unprotected one may hold ``epk``, which the key wrapping authenticates."""
    try:
        header = loads(base64url.decode(protected), max_bytes=_MAX_HEADER_BYTES)
    except InvalidJsonError as error:
        raise JoseError("the header is not JSON") from error
    if not isinstance(header, dict) or not set(header) <= {"alg", "enc", "epk"}:
        raise JoseError("the header has members that are not understood")
    if unprotected is None:
        return header
    if not isinstance(unprotected, dict) or set(unprotected) != {"epk"} or "epk" in header:
        raise JoseError("the unprotected header has members that are not understood")
    return {**header, **unprotected}


def _unwrap(header: Mapping[str, object], wrapped: bytes, key: PrivateKey) -> bytes:
    if header.get("enc") != _CONTENT:
        raise JoseError("the content encryption is not A256GCM")
    if isinstance(key, rsa.RSAPrivateKey):
        return _unwrap_rsa(header, wrapped, key)
    return _unwrap_ecdh(header, wrapped, key)


def _unwrap_rsa(header: Mapping[str, object], wrapped: bytes, key: rsa.RSAPrivateKey) -> bytes:
    if header.get("alg") != RSA_OAEP:
        raise JoseError("the key wrapping does not fit an RSA key")
    try:
        return key.decrypt(wrapped, _oaep())
    except ValueError as error:
        raise JoseError("the message does not open with this key") from error


def _unwrap_ecdh(header: Mapping[str, object], wrapped: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    if header.get("alg") != ECDH:
        raise JoseError("the key wrapping does not fit an EC key")
    point = parse_public_jwk(header.get("epk"))
    if not isinstance(point, EcPublicJwk) or point.curve.parameters.name != key.curve.name:
        raise JoseError("the ephemeral key is on another curve")
    if len(wrapped) != _WRAPPED_KEY_BYTES:
        raise JoseError("the wrapped key has the wrong length")
    shared = key.exchange(ec.ECDH(), point.public_key())
    try:
        return aes_key_unwrap(_wrapping_key(shared), wrapped)
    except InvalidUnwrap as error:
        raise JoseError("the message does not open with this key") from error


def _oaep() -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
