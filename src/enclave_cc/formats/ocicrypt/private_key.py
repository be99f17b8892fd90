"""Private keys as owners keep them: PEM or DER (PKCS#1, PKCS#8, SEC1), or a JWK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import Curve
from enclave_cc.formats.jose.private_jwk import parse_private_jwk

if TYPE_CHECKING:
    from enclave_cc.formats.jose.key_wrapping import PrivateKey

# An RSA key of 8192 bits in PEM has 6.3 KiB.
MAX_KEY_BYTES: Final = 16 << 10
# Below 2048 bits an RSA key protects nothing; above 8192 it only costs us time.
_RSA_BITS: Final = range(2048, 8193)
_CURVES: Final = frozenset(curve.parameters.name for curve in Curve)
_JSON_START: Final = b"{"
_PEM_START: Final = b"-----BEGIN"


def parse_private_key(data: bytes, *, password: bytes | None = None) -> PrivateKey:
    """
    Read an RSA key of 2048 to 8192 bits or an EC key on P-256, P-384 or P-521.

    Raises ``InvalidInputError`` (decryption-key-invalid) for anything else, also for a wrong or missing
    password.
    """
    if len(data) > MAX_KEY_BYTES:
        raise _invalid("the key is too long")
    try:
        key = _load(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid(_complaint(data, password)) from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in _RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise _invalid("the key is not of a kind that is used here")


def needs_password(data: bytes) -> bool:
    """Tell whether a PEM says of itself that it is encrypted."""
    return b"ENCRYPTED" in data and _PEM_START in data


def _load(data: bytes, password: bytes | None) -> object:
    if data.lstrip().startswith(_JSON_START):
        try:
            return parse_private_jwk(loads(data, max_bytes=MAX_KEY_BYTES))
        except (InvalidJsonError, JoseError) as error:
            raise ValueError(str(error)) from error
    if _PEM_START in data:
        return load_pem_private_key(data, password)
    return load_der_private_key(data, password)


def _complaint(data: bytes, password: bytes | None) -> str:
    """Say what is wrong without quoting the library: its texts may quote the key."""
    if needs_password(data):
        return "the password does not open the key" if password else "the key is protected by a password"
    return "the key does not parse"


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "decryption-key-invalid", "a private key cannot be used", stage=Stage.DECRYPT, detail=detail
    )
