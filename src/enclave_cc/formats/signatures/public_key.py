"""The public keys that image signatures are verified under, and how each kind verifies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.signatures import ed25519ph

MAX_KEY_BYTES: Final = 16 << 10
_MIN_RSA_BITS: Final = 2048

_Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A verification key; ``key_id`` is the SHA-256 of its SubjectPublicKeyInfo, as logs name their keys."""

    key: _Key
    key_id: bytes

    @property
    def fingerprint(self) -> str:
        """Return a name for the key that people can compare."""
        return f"sha256:{self.key_id.hex()}"

    @classmethod
    def of(cls, key: object) -> Self:
        """Take a key of a known kind; raise ``ValueError`` for another."""
        known = _supported(key)
        spki = known.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(known, hashlib.sha256(spki).digest())

    @classmethod
    def from_der(cls, data: bytes) -> Self:
        """Read a DER ``SubjectPublicKeyInfo``; raise ``ValueError`` otherwise."""
        try:
            return cls.of(serialization.load_der_public_key(data[:MAX_KEY_BYTES]))
        except UnsupportedAlgorithm as error:
            raise ValueError("a key of an unknown kind") from error

    @classmethod
    def from_pem(cls, data: bytes) -> Self:
        """
        Read a PEM ``SubjectPublicKeyInfo``; raise ``InvalidInputError`` (signature-key-invalid).

        P-256, P-384, Ed25519 and RSA from 2048 bits are known; whatever else a PEM file holds is not.
        """
        try:
            return cls.of(serialization.load_pem_public_key(data[:MAX_KEY_BYTES]))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInputError(
                "signature-key-invalid",
                "a signature verification key is malformed or of an unknown kind",
                stage=Stage.POLICY,
                detail=str(error),
            ) from error

    def to_pem(self) -> bytes:
        """Write the key as a PEM ``SubjectPublicKeyInfo``."""
        return self.key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the key's holder signed the message: for callers who try several keys."""
        try:
            self._verify(message, signature)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _verify(self, message: bytes, signature: bytes) -> None:
        match self.key:
            case ed25519.Ed25519PublicKey():
                _verify_ed25519(self.key, message, signature)
            case rsa.RSAPublicKey():
                self.key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            case _:
                _verify_ecdsa(self.key, message, signature)


def _verify_ed25519(key: ed25519.Ed25519PublicKey, message: bytes, signature: bytes) -> None:
    """Verify either variant: plain, or prehashed as cosign signs; a domain prefix keeps them apart."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        if not ed25519ph.has_signed(key.public_bytes_raw(), message, signature):
            raise


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> None:
    """Verify DER signatures; signers pair P-384 with SHA-384 or, by default of cosign, with SHA-256."""
    if key.curve.name == ec.SECP384R1.name:
        try:
            key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        return
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def _supported(key: object) -> _Key:
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in {ec.SECP256R1.name, ec.SECP384R1.name}:
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case rsa.RSAPublicKey() if key.key_size >= _MIN_RSA_BITS:
            return key
        case _:
            raise ValueError(f"{type(key).__name__} is not supported")
