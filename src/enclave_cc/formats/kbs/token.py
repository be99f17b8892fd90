"""
The broker's token as its client checks it: signed by the broker that the owner named, for this handshake.

A host that redirects the connection to a broker of its own cannot make one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS, verify_es256

if TYPE_CHECKING:
    from datetime import datetime

    from enclave_cc.formats.jose.jwk import PublicJwk

# Between the broker's clock and ours.
_LEEWAY_S: Final = 60
_EVIDENCE: Final = "ear.veraison.annotated-evidence"


def load_token_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Read the key that the owner named; raise ``InvalidInputError`` (``broker-token-key-invalid``)."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key("not a P-256 key")
    return key


def verify_token(
    token: str, key: ec.EllipticCurvePublicKey, tee_key: PublicJwk, nonce: str, *, now: datetime
) -> None:
    """
    Raise ``RefusedError`` (``broker-token-refused``) unless the token is this handshake's.

    (1) ES256 under the owner's key; (2) not expired; (3) about our nonce and our key.
    """
    try:
        claims = Fields(loads(verify_es256(token, key).payload, max_bytes=MAX_TOKEN_CHARS), "token")
        if claims.integer("exp") + _LEEWAY_S <= now.timestamp():
            raise claims.error("exp", "has passed")
        runtime = claims.object("submods").object("cpu0").object(_EVIDENCE).object("runtime_data_claims")
        if runtime.text("nonce") != nonce or runtime.raw("tee-pubkey") != tee_key.to_json():
            raise runtime.error("nonce", "is of another handshake")
    except (JoseError, InvalidJsonError, FieldError) as error:
        raise RefusedError(
            "broker-token-refused",
            "the key broker's token is not the owner's",
            stage=Stage.ATTEST,
            detail=str(error),
        ) from error


def _bad_key(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "broker-token-key-invalid", "the broker's token key cannot be read", stage=Stage.CONFIG, detail=detail
    )
