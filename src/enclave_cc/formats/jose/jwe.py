"""
JWE in JSON (RFC 7516 §7.2), the content sealed with A256GCM.

Two protocols use it and differ in what they accept. The KBS protocol sends resources flattened, with a
protected header that is written byte for byte as every existing client rebuilds it: compact, ``alg``,
``enc``, then the rest sorted. ocicrypt wraps layer keys flattened for one recipient and in the general
form for several. Reading takes the received text as it is.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import base64url, key_wrapping
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.key_wrapping import ECDH, RSA_OAEP, RSA_OAEP_256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.jose.jwk import PublicJwk
    from enclave_cc.formats.jose.key_wrapping import PrivateKey

_CONTENT: Final = "A256GCM"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
# The header holds a few names and one point.
_MAX_HEADER_BYTES: Final = 2048
_MAX_RECIPIENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Profile:
    """What one protocol's messages may use."""

    algorithms: frozenset[str]
    protected: frozenset[str]
    unprotected: frozenset[str]
    general: bool


# The unprotected header may hold what the key wrapping authenticates by itself.
KBS: Final = Profile(
    algorithms=frozenset({ECDH, RSA_OAEP_256}),
    protected=frozenset({"alg", "enc", "epk"}),
    unprotected=frozenset({"epk"}),
    general=False,
)
LAYER_KEYS: Final = Profile(
    algorithms=frozenset({ECDH, RSA_OAEP_256, RSA_OAEP}),
    protected=frozenset({"alg", "enc", "epk", "kid", "typ", "cty"}),
    unprotected=frozenset({"alg", "epk", "kid"}),
    general=True,
)


def seal(plaintext: bytes, recipient: PublicJwk, profile: Profile = KBS) -> dict[str, str]:
    """Encrypt to a key, flattened; raise ``JoseError`` when the key's ``alg`` is not in the profile."""
    if recipient.algorithm not in profile.algorithms:
        raise JoseError("the key is for an algorithm that is not offered")
    content_key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    members, wrapped = key_wrapping.wrap(content_key, recipient)
    header = {"alg": members.pop("alg"), "enc": _CONTENT, **members}
    protected = base64url.encode(json.dumps(header, separators=(",", ":")).encode())
    sealed = AESGCM(content_key).encrypt(nonce, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": base64url.encode(wrapped),
        "iv": base64url.encode(nonce),
        "ciphertext": base64url.encode(sealed[:-_TAG_BYTES]),
        "tag": base64url.encode(sealed[-_TAG_BYTES:]),
    }


def unseal(message: object, key: PrivateKey, profile: Profile = KBS) -> bytes:
    """
    Decrypt; raise ``JoseError`` unless the message is complete, for this key, and authentic.

    One sentence covers a wrong key and a wrong tag: the difference would only help an attacker.
    """
    try:
        return _unseal(Fields(message, "jwe"), key, profile)
    except FieldError as error:
        raise JoseError(str(error)) from error


def _unseal(fields: Fields, key: PrivateKey, profile: Profile) -> bytes:
    if fields.has("aad") or fields.has("unprotected"):
        raise JoseError("the message has members that are not understood")
    if not fields.has("recipients"):
        return _open(fields, fields, key, profile)
    problem = JoseError("")
    for recipient in _recipients(fields, profile):
        try:
            return _open(fields, Fields(recipient, "jwe.recipients"), key, profile)
        except (JoseError, FieldError) as error:
            problem = JoseError(str(error))
    raise problem


def _recipients(fields: Fields, profile: Profile) -> list[object]:
    """
    Return the recipients of the general form (§7.2.1); there are few, and none stands beside them.

    Go programs repeat the first one's key there, although the specification forbids it.
    """
    recipients = fields.array("recipients")
    if not profile.general or fields.has("header"):
        raise JoseError("the message is not a plain flattened JWE")
    if not 1 <= len(recipients) <= _MAX_RECIPIENTS:
        raise JoseError("the message has no or too many recipients")
    beside = fields.raw("encrypted_key")
    if beside is not None and beside != Fields(recipients[0], "jwe.recipients").text("encrypted_key"):
        raise JoseError("the message has another recipient beside the list")
    return recipients


def _open(fields: Fields, recipient: Fields, key: PrivateKey, profile: Profile) -> bytes:
    protected = fields.text("protected")
    header = _read_header(protected, recipient.raw("header"), profile)
    if header.get("enc") != _CONTENT or header.get("alg") not in profile.algorithms:
        raise JoseError("the message uses an algorithm that is not accepted")
    content_key = key_wrapping.unwrap(header, base64url.decode(recipient.text("encrypted_key")), key)
    nonce, sealed, tag = (base64url.decode(fields.text(name)) for name in ("iv", "ciphertext", "tag"))
    if len(nonce) != _NONCE_BYTES or len(tag) != _TAG_BYTES or len(content_key) != _KEY_BYTES:
        raise JoseError("a part of the message has the wrong length")
    try:
        return AESGCM(content_key).decrypt(nonce, sealed + tag, protected.encode("ascii"))
    except InvalidTag as error:
        raise JoseError("the message does not open with this key") from error


def _read_header(protected: str, unprotected: object, profile: Profile) -> Mapping[str, object]:
    """Join both headers; no name may stand in both."""
    try:
        header = loads(base64url.decode(protected), max_bytes=_MAX_HEADER_BYTES)
    except InvalidJsonError as error:
        raise JoseError("the header is not JSON") from error
    if not isinstance(header, dict) or not set(header) <= profile.protected:
        raise JoseError("the header has members that are not understood")
    if unprotected is None:
        return header
    if not isinstance(unprotected, dict) or not set(unprotected) <= profile.unprotected - set(header):
        raise JoseError("the unprotected header has members that are not understood")
    return {**header, **unprotected}
