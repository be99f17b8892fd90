"""The administrator's bearer token: one secret, compared in constant time, never stored in clear."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from enclave_cc.trustee.broker.errors import KbsRefusal

if TYPE_CHECKING:
    from enclave_cc.trustee.broker.exchange import Exchange


@dataclass(frozen=True, slots=True)
class AdminGate:
    """Knows the token's digest only."""

    token_sha256: bytes

    @classmethod
    def with_token(cls, token: str) -> Self:
        """Admit whoever presents this token."""
        return cls(hashlib.sha256(token.encode()).digest())

    def require(self, exchange: Exchange) -> None:
        """Raise ``KbsRefusal`` unless the request carries the token."""
        presented = hashlib.sha256(exchange.bearer.encode("utf-8", "surrogatepass")).digest()
        if not exchange.bearer or not hmac.compare_digest(presented, self.token_sha256):
            sentence = f"admin access denied for endpoint {exchange.segments[0]}: Admin access denied"
            raise KbsRefusal("AdminAuthAccess", sentence=sentence, code="admin-denied", recorded=False)
