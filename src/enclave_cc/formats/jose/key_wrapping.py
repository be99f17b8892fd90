"""
The ways in which a JWE's content key is wrapped (RFC 7518 §4.3 and §4.6), and no others.

ECDH-ES+A256KW on three curves and RSA-OAEP with SHA-256 or, because every ocicrypt writes it, SHA-1.
RSA1_5 is not offered and not accepted. Which of these a message may use, its reader says.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, RsaPublicJwk, parse_public_jwk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.jose.jwk import PublicJwk

ECDH: Final = "ECDH-ES+A256KW"
RSA_OAEP_256: Final = "RSA-OAEP-256"
RSA_OAEP: Final = "RSA-OAEP"
_KEY_BYTES: Final = 32
_WRAPPED_KEY_BYTES: Final = 40
_DOES_NOT_OPEN: Final = "the message does not open with this key"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def wrap(content_key: bytes, recipient: PublicJwk) -> tuple[dict[str, object], bytes]:
    """Wrap a key as the recipient's ``alg`` says; return the header's members for it and the wrapped key."""
    match recipient:
        case EcPublicJwk(algorithm="ECDH-ES+A256KW"):
            return _wrap_ecdh(content_key, recipient)
        case RsaPublicJwk(algorithm="RSA-OAEP-256" | "RSA-OAEP"):
            wrapped = recipient.public_key().encrypt(content_key, _oaep(recipient.algorithm))
            return {"alg": recipient.algorithm}, wrapped
        case _:
            raise JoseError("the key is for another algorithm")


def unwrap(header: Mapping[str, object], wrapped: bytes, key: PrivateKey) -> bytes:
    """Unwrap a key; raise ``JoseError``, with one sentence for whatever a wrong key can cause."""
    if isinstance(key, rsa.RSAPrivateKey):
        return _unwrap_rsa(header, wrapped, key)
    return _unwrap_ecdh(header, wrapped, key)


def _wrap_ecdh(content_key: bytes, recipient: EcPublicJwk) -> tuple[dict[str, object], bytes]:
    ephemeral = ec.generate_private_key(recipient.curve.parameters)
    point = EcPublicJwk.of(ephemeral.public_key(), algorithm="").to_json()
    header: dict[str, object] = {"alg": ECDH, "epk": dict(sorted(point.items()))}
    shared = ephemeral.exchange(ec.ECDH(), recipient.public_key())
    return header, aes_key_wrap(_wrapping_key(shared), content_key)


def _wrapping_key(shared: bytes) -> bytes:
    """Derive the key as RFC 7518 §4.6.2 says, with empty party information."""
    algorithm = ECDH.encode()
    info = struct.pack(">I", len(algorithm)) + algorithm + bytes(8) + struct.pack(">I", 8 * _KEY_BYTES)
    return ConcatKDFHash(SHA256(), _KEY_BYTES, info).derive(shared)


def _unwrap_rsa(header: Mapping[str, object], wrapped: bytes, key: rsa.RSAPrivateKey) -> bytes:
    algorithm = header.get("alg")
    if algorithm not in {RSA_OAEP, RSA_OAEP_256}:
        raise JoseError("the key wrapping does not fit an RSA key")
    try:
        return key.decrypt(wrapped, _oaep(str(algorithm)))
    except ValueError as error:
        raise JoseError(_DOES_NOT_OPEN) from error


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
        raise JoseError(_DOES_NOT_OPEN) from error


def _oaep(algorithm: str) -> padding.OAEP:
    if algorithm == RSA_OAEP:
        # What OAEP needs of its hash, SHA-1 still has: nothing here depends on collisions.
        return padding.OAEP(mgf=padding.MGF1(SHA1()), algorithm=SHA1(), label=None)  # noqa: S303
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
