"""``signedBy``: one simple signature against a keyring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.openpgp.messages import MESSAGE_RULE, Keyring, SignedMessage, verify_message
from enclave_cc.formats.signatures.claim import PayloadType, SignedClaim
from enclave_cc.image.signatures.attempt import PAYLOAD_RULE
from enclave_cc.image.signatures.claims import check_claims
from enclave_cc.image.signatures.sigstore import load

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from enclave_cc.formats.signatures.identity import SignedIdentity
    from enclave_cc.formats.signatures.requirements import Material
    from enclave_cc.image.ports import Resources
    from enclave_cc.image.signatures.subject import SignatureSubject


def load_keyring(keyrings: tuple[Material, ...], resources: Resources, *, now: dt.datetime) -> Keyring:
    """Fetch keyrings and join them; raise ``InvalidInputError`` (signature-key-invalid)."""
    parsed = [Keyring.parse(load(material, resources), now=now) for material in keyrings]
    return Keyring(tuple(key for keyring in parsed for key in keyring.keys))


def openpgp_steps(
    data: bytes, keyring: Keyring, identity: SignedIdentity, subject: SignatureSubject, *, now: dt.datetime
) -> Iterator[Finding]:
    """
    Yield the steps for one signature: who signed, then what was signed.

    The caller stops at the first that failed, so that no claim is read before its signature verified.
    """
    try:
        message = SignedMessage.parse(data)
    except ValueError as error:
        yield Finding(MESSAGE_RULE, Outcome.FAILED, "a signed OpenPGP message", str(error))
        return
    yield from verify_message(message, keyring, now=now)
    try:
        claim = SignedClaim.parse(message.payload, PayloadType.ATOMIC)
    except InvalidInputError as error:
        yield Finding(PAYLOAD_RULE, Outcome.FAILED, "a readable claim", error.detail)
        return
    yield from check_claims((claim,), identity, subject, untagged_covers_tags=False)
