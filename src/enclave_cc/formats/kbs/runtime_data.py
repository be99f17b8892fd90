"""
What the TEE signs during a handshake: the nonce, the key that resources are sealed to, further evidence.

KBS protocol 0.4.0: SHA-384 over the canonical JSON of three members. ``additional-evidence``
is always present, as the empty text when there is none.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from enclave_cc.core.strict_json import canonical

if TYPE_CHECKING:
    from enclave_cc.formats.jose.jwk import PublicJwk


def runtime_data(nonce: str, tee_key: PublicJwk, additional_evidence: str = "") -> dict[str, object]:
    """Return the members that are hashed; they reappear in the token as ``runtime_data_claims``."""
    return {"additional-evidence": additional_evidence, "nonce": nonce, "tee-pubkey": tee_key.to_json()}


def report_data(nonce: str, tee_key: PublicJwk, additional_evidence: str = "") -> bytes:
    """Return REPORT_DATA before padding, 48 bytes; raise ``InvalidJsonError`` for texts that are none."""
    return hashlib.sha384(canonical(runtime_data(nonce, tee_key, additional_evidence))).digest()
