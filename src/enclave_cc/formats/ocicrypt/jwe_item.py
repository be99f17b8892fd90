"""
Layer keys wrapped as JWE: for whoever holds an RSA or EC private key.

Anybody can wrap for a public key. A layer that opens with one is therefore *confidential* and no more:
who made it, only a signature of the image says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.strict_json import loads
from enclave_cc.formats.jose import jwe
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, PublicJwk, RsaPublicJwk, parse_public_jwk
from enclave_cc.formats.jose.key_wrapping import ECDH, RSA_OAEP
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, MAX_ITEM_BYTES

if TYPE_CHECKING:
    from enclave_cc.formats.jose.key_wrapping import PrivateKey

JWE_ANNOTATION: Final = f"{KEYS_PREFIX}jwe"
_MAX_PUBLIC_KEY_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class JweRecipient:
    """The holder of a private key; ``key.algorithm`` says how keys are wrapped for it."""

    key: PublicJwk

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """
        Read a public key in PEM, DER or JWK; raise ``InvalidInputError`` (recipient-invalid).

        A JWK may choose its ``alg``. Other RSA keys get RSA-OAEP, which every ocicrypt can read.
        """
        try:
            key = _public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _invalid("the public key does not parse") from error
        if key.algorithm not in jwe.LAYER_KEYS.algorithms:
            raise _invalid(f"the key is for {key.algorithm[:64]}")
        return cls(key)

    @property
    def annotation(self) -> str:
        """Return the annotation of JWE items."""
        return JWE_ANNOTATION

    def wrap(self, options: PrivateOptions) -> bytes:
        """Write a flattened JWE."""
        return json.dumps(jwe.seal(options.encode(), self.key, jwe.LAYER_KEYS)).encode()


def parse_jwe(item: bytes) -> object:
    """Read the JSON of an item; raise ``InvalidInputError`` (layer-key-invalid)."""
    with foreign("layer-key-invalid", "a layer's wrapped key is malformed", stage=Stage.DECRYPT):
        return loads(item, max_bytes=MAX_ITEM_BYTES)


def unwrap_jwe(message: object, key: PrivateKey) -> PrivateOptions:
    """Open an item; raise ``RefusedError`` (layer-key-refused), or ``InvalidInputError`` for its content."""
    try:
        plaintext = jwe.unseal(message, key, jwe.LAYER_KEYS)
    except JoseError as error:
        raise RefusedError(
            "layer-key-refused",
            "the key does not open a layer of the image",
            stage=Stage.DECRYPT,
            detail=str(error),
        ) from error
    return PrivateOptions.parse(plaintext)


def _public_key(data: bytes) -> PublicJwk:
    """Read a key; raise ``ValueError``, which ``JoseError`` is too."""
    if data.lstrip().startswith(b"{"):
        return _with_algorithm(parse_public_jwk(loads(data, max_bytes=_MAX_PUBLIC_KEY_BYTES)))
    key = load_pem_public_key(data) if b"-----BEGIN" in data else load_der_public_key(data)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return EcPublicJwk.of(key, algorithm=ECDH)
    if isinstance(key, rsa.RSAPublicKey):
        return parse_public_jwk(RsaPublicJwk.of(key, algorithm=RSA_OAEP).to_json())
    raise ValueError("the key is not of a kind that is used here")


def _with_algorithm(key: PublicJwk) -> PublicJwk:
    if key.algorithm:
        return key
    if isinstance(key, EcPublicJwk):
        return EcPublicJwk(key.curve, key.x, key.y, ECDH)
    return RsaPublicJwk(key.modulus, key.exponent, RSA_OAEP)


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "recipient-invalid", "a recipient cannot be used", stage=Stage.CONFIG, detail=detail
    )
