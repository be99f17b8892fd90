"""Private keys as JSON (RFC 7518 §6.2.2 and §6.3.2), as some tools keep them: EC and two-prime RSA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, RsaPublicJwk

if TYPE_CHECKING:
    from enclave_cc.formats.jose.key_wrapping import PrivateKey


def parse_private_jwk(value: object) -> PrivateKey:
    """Read a private JWK; raise ``JoseError`` unless its private and public members belong together."""
    try:
        fields = Fields(value, "jwk")
        return _ec(fields) if fields.text("kty") == "EC" else _rsa(fields)
    except (JoseError, FieldError) as error:
        raise JoseError(str(error)) from error
    except ValueError as error:
        raise JoseError("the numbers are not a private key") from error


def _ec(fields: Fields) -> ec.EllipticCurvePrivateKey:
    public = EcPublicJwk.parse(fields).public_key().public_numbers()
    return ec.EllipticCurvePrivateNumbers(_number(fields, "d"), public).private_key()


def _rsa(fields: Fields) -> rsa.RSAPrivateKey:
    if fields.text("kty") != "RSA":
        raise JoseError("the key type is not supported")
    public = RsaPublicJwk.parse(fields).public_key().public_numbers()
    if fields.has("oth"):
        raise JoseError("the RSA key has more than two primes")
    d, p, q, dp, dq, qi = (_number(fields, name) for name in ("d", "p", "q", "dp", "dq", "qi"))
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()


def _number(fields: Fields, name: str) -> int:
    return int.from_bytes(base64url.decode(fields.text(name)), "big")
