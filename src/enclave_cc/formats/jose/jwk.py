"""
Public keys as JSON (RFC 7517, RFC 7518 §6): EC P-256, P-384 and P-521, and RSA.

A key that parsed is a key: points are on their curve and coordinates have their fixed width.
Members that are not part of the key are dropped, because the KBS protocol hashes the key
*without* them. Private members are refused: whoever sends one has leaked it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import canonical
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Below 2048 bits an RSA key protects nothing; above 8192 it only costs us time.
_RSA_BITS: Final = range(2048, 8193)
# Encodings of the exponents in use (3 and 65537 among them) need at most this.
_MAX_EXPONENT_BYTES: Final = 8
_PRIVATE_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "k")


class Curve(StrEnum):
    """The NIST curves that keys of brokers and of image owners are on."""

    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"

    @property
    def coordinate_bytes(self) -> int:
        """Return the fixed width of a coordinate and of the shared secret."""
        return (self.parameters.key_size + 7) // 8

    @property
    def parameters(self) -> ec.EllipticCurve:
        """Return the curve as ``cryptography`` knows it."""
        match self:
            case Curve.P256:
                return ec.SECP256R1()
            case Curve.P384:
                return ec.SECP384R1()
            case Curve.P521:
                return ec.SECP521R1()


@dataclass(frozen=True, slots=True)
class EcPublicJwk:
    """A point on one of three curves; ``algorithm`` is the JWK's ``alg``."""

    curve: Curve
    x: bytes
    y: bytes
    algorithm: str

    @classmethod
    def of(cls, key: ec.EllipticCurvePublicKey, *, algorithm: str) -> Self:
        """Describe a key that is at hand; raise ``JoseError`` when its curve has no name here."""
        for curve in Curve:
            if key.curve.name == curve.parameters.name:
                numbers, width = key.public_numbers(), curve.coordinate_bytes
                return cls(
                    curve, numbers.x.to_bytes(width, "big"), numbers.y.to_bytes(width, "big"), algorithm
                )
        raise JoseError("the curve is not supported")

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read an EC JWK; raise ``JoseError`` unless it is a point of the curve it names."""
        name = fields.text("crv")
        if name not in set(Curve):
            raise JoseError("the curve is not supported")
        curve = Curve(name)
        x, y = (base64url.decode(fields.text(coordinate)) for coordinate in ("x", "y"))
        if len(x) != curve.coordinate_bytes or len(y) != curve.coordinate_bytes:
            raise JoseError("a coordinate does not have the width of its curve")
        key = cls(curve, x, y, fields.text("alg", default=""))
        key.public_key()
        return key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the key; raise ``JoseError`` when the point is not on the curve."""
        x, y = int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big")
        try:
            return ec.EllipticCurvePublicNumbers(x, y, self.curve.parameters).public_key()
        except ValueError as error:
            raise JoseError("the point is not on the curve") from error

    def to_json(self) -> dict[str, str]:
        """Return the members that the protocol hashes, and no others."""
        members = {"kty": "EC", "crv": str(self.curve), "alg": self.algorithm}
        members |= {"x": base64url.encode(self.x), "y": base64url.encode(self.y)}
        return {name: value for name, value in members.items() if value}

    def thumbprint(self) -> str:
        """Return the RFC 7638 thumbprint, which we use as ``kid``."""
        return _thumbprint(self.to_json(), ("crv", "kty", "x", "y"))


@dataclass(frozen=True, slots=True)
class RsaPublicJwk:
    """An RSA key; ``algorithm`` is the JWK's ``alg``."""

    modulus: bytes
    exponent: bytes
    algorithm: str

    @classmethod
    def of(cls, key: rsa.RSAPublicKey, *, algorithm: str) -> Self:
        """Describe a key that is at hand."""
        numbers = key.public_numbers()
        return cls(_unsigned(numbers.n), _unsigned(numbers.e), algorithm)

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read an RSA JWK; raise ``JoseError`` when its size is out of bounds."""
        modulus, exponent = (base64url.decode(fields.text(name)) for name in ("n", "e"))
        if (
            int.from_bytes(modulus, "big").bit_length() not in _RSA_BITS
            or len(exponent) > _MAX_EXPONENT_BYTES
        ):
            raise JoseError("the RSA key has a size that is not accepted")
        key = cls(modulus, exponent, fields.text("alg", default=""))
        key.public_key()
        return key

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the key; raise ``JoseError`` when the numbers make none."""
        e, n = int.from_bytes(self.exponent, "big"), int.from_bytes(self.modulus, "big")
        try:
            return rsa.RSAPublicNumbers(e, n).public_key()
        except ValueError as error:
            raise JoseError("the numbers are not an RSA key") from error

    def to_json(self) -> dict[str, str]:
        """Return the members that the protocol hashes, and no others."""
        members = {"kty": "RSA", "alg": self.algorithm}
        members |= {"n": base64url.encode(self.modulus), "e": base64url.encode(self.exponent)}
        return {name: value for name, value in members.items() if value}

    def thumbprint(self) -> str:
        """Return the RFC 7638 thumbprint."""
        return _thumbprint(self.to_json(), ("e", "kty", "n"))


PublicJwk = EcPublicJwk | RsaPublicJwk


def parse_public_jwk(value: object) -> PublicJwk:
    """Read a public JWK of a known key type; raise ``JoseError`` for anything else."""
    try:
        fields = Fields(value, "jwk")
        if any(fields.has(name) for name in _PRIVATE_MEMBERS):
            raise JoseError("the JWK holds private members")
        match fields.text("kty"):
            case "EC":
                return EcPublicJwk.parse(fields)
            case "RSA":
                return RsaPublicJwk.parse(fields)
            case _:
                raise JoseError("the key type is not supported")
    except FieldError as error:
        raise JoseError(str(error)) from error


def _thumbprint(members: Mapping[str, str], names: tuple[str, ...]) -> str:
    return base64url.encode(hashlib.sha256(canonical({name: members[name] for name in names})).digest())


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
