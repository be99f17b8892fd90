"""
Attestation result tokens: EAR claims in a JWT, signed with ES256.

The header carries the key, as existing relying parties expect, and its thumbprint as ``kid``.
Our own broker never takes the key from there: it verifies under the key that it holds.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk, PublicJwk, parse_public_jwk
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS, sign_es256, verify_es256
from enclave_cc.trustee.appraisal.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from enclave_cc.trustee.appraisal.trust_vector import TrustVector

LIFETIME: Final = timedelta(minutes=5)
ISSUER: Final = "enclave-cc"
_PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
_EVIDENCE: Final = "ear.veraison.annotated-evidence"
_TOKEN_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Claims of a token that we signed and that has not expired."""

    claims: dict[str, object]
    tee_key: PublicJwk
    trust_vector: dict[str, object]
    measurement: str


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs tokens and recognises its own."""

    key: ec.EllipticCurvePrivateKey
    build: str
    now: Callable[[], datetime]

    def issue(
        self, evidence: Mapping[str, object], vector: TrustVector, extensions: Mapping[str, object]
    ) -> str:
        """Sign one appraisal of one CPU; raise ``RefusedError`` for one that no request could carry."""
        now = int(self.now().timestamp())
        jwk = EcPublicJwk.of(self.key.public_key(), algorithm="ES256")
        claims = {
            "eat_profile": _PROFILE,
            "iss": ISSUER,
            "iat": now,
            "exp": now + int(LIFETIME.total_seconds()),
            "jti": os.urandom(_TOKEN_ID_BYTES).hex(),
            "ear.verifier-id": {"developer": "enclave-cc", "build": self.build},
            "submods": {
                "cpu0": {
                    **extensions,
                    "ear.status": vector.status,
                    "ear.trustworthiness-vector": dict(vector.values),
                    "ear.appraisal-policy-id": "default",
                    _EVIDENCE: dict(evidence),
                }
            },
        }
        header = {"typ": "JWT", "kid": jwk.thumbprint(), "jwk": jwk.to_json()}
        token = sign_es256(json.dumps(claims, separators=(",", ":")).encode(), self.key, header=header)
        if len(token) > MAX_TOKEN_CHARS:
            raise RefusedError(
                "evidence-malformed",
                "the evidence cannot be read",
                stage=Stage.ATTEST,
                detail=f"its token would have {len(token)} characters; the init-data is too long",
            )
        return token

    def verify(self, token: str) -> VerifiedToken:
        """Return the claims of one of our tokens; raise ``RefusedError`` (``token-refused``)."""
        try:
            payload = verify_es256(token, self.key.public_key()).payload
            claims = loads(payload, max_bytes=MAX_TOKEN_CHARS)
            return self._read(claims, Fields(claims, "token"))
        except (JoseError, InvalidJsonError, FieldError) as error:
            raise RefusedError(
                "token-refused", "the attestation token is not valid", stage=Stage.BROKER, detail=str(error)
            ) from error

    def _read(self, claims: object, fields: Fields) -> VerifiedToken:
        if fields.text("iss") != ISSUER:
            raise fields.error("iss", "is not this broker")
        if fields.integer("exp") <= self.now().timestamp():
            raise fields.error("exp", "has passed")
        submod = fields.object("submods").object("cpu0")
        evidence = submod.object(_EVIDENCE)
        key = evidence.object("runtime_data_claims").raw("tee-pubkey")
        vector = submod.raw("ear.trustworthiness-vector")
        if not isinstance(claims, dict) or not isinstance(vector, dict):
            raise fields.error("submods", "has no trust vector")
        return VerifiedToken(claims, parse_public_jwk(key), vector, _measurement(evidence))


def _measurement(evidence: Fields) -> str:
    """Return MRENCLAVE of the one kind of evidence that the token is about."""
    kinds = [evidence.object(tee).object("body").text("mr_enclave", default="") for tee in Tee]
    return "".join(kinds)
