"""``sigstoreSigned``: one signature against keys, or against a pinned authority and its logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.formats.signatures.requirements import FulcioTrust, KeyTrust, TrustedRootTrust
from enclave_cc.formats.sigstore.authority import Authority, load_pem_authority
from enclave_cc.formats.sigstore.keyless import KEY_RULE, LOG_RULE, verify_keyless
from enclave_cc.formats.sigstore.rekor import LogError, LogKey, verify_entry
from enclave_cc.formats.sigstore.trusted_root import TrustRoot, parse_trusted_root
from enclave_cc.image.signatures.attempt import PAYLOAD_RULE
from enclave_cc.image.signatures.claims import check_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.signatures.identity import SignedIdentity
    from enclave_cc.formats.signatures.requirements import Material, SigstoreTrust
    from enclave_cc.formats.signatures.signer import SignerIdentity
    from enclave_cc.formats.sigstore.detached import DetachedSignature
    from enclave_cc.image.ports import Resources
    from enclave_cc.image.signatures.subject import SignatureSubject


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """Keys of a policy, and the logs of which one has to have seen the signature, if any are named."""

    keys: tuple[PublicKey, ...]
    logs: tuple[LogKey, ...]

    def verify(self, found: DetachedSignature) -> Iterator[Finding]:
        """Yield the finding of each step."""
        expected = " or ".join(key.fingerprint for key in self.keys)
        signer = next((key for key in self.keys if key.has_signed(found.message, found.signature)), None)
        if signer is None:
            yield Finding(KEY_RULE, Outcome.FAILED, expected, "a signature that verifies under no such key")
            return
        yield Finding(KEY_RULE, Outcome.PASSED, expected, signer.fingerprint)
        if self.logs:
            yield self._logged(found, signer)

    def _logged(self, found: DetachedSignature, signer: PublicKey) -> Finding:
        problem = "no log entry"
        for entry in found.log_entries:
            try:
                verify_entry(entry, found, signer.to_pem(), self.logs)
            except LogError as error:
                problem = str(error)
            else:
                return Finding(LOG_RULE, Outcome.PASSED, "an entry in a pinned log", entry.log_id.hex())
        return Finding(LOG_RULE, Outcome.FAILED, "an entry in a pinned log", problem)


@dataclass(frozen=True, slots=True)
class LoadedRoot:
    """A pinned trust root and who has to have signed."""

    root: TrustRoot
    signer: SignerIdentity

    def verify(self, found: DetachedSignature) -> Iterator[Finding]:
        """Yield the finding of each step."""
        return verify_keyless(found, self.root, self.signer)


def load_trust(trust: SigstoreTrust, resources: Resources) -> LoadedKeys | LoadedRoot:
    """
    Fetch what a requirement names and read it.

    Raises ``InvalidInputError`` (signature-key-invalid, trust-root-invalid) and what the broker answers.
    """
    match trust:
        case KeyTrust():
            return LoadedKeys(_keys(trust.keys, resources), _logs(trust.rekor_keys, resources))
        case FulcioTrust():
            root = TrustRoot((_authority(trust.ca, resources),), _logs(trust.rekor_keys, resources))
            return LoadedRoot(root, trust.signer)
        case TrustedRootTrust():
            return LoadedRoot(parse_trusted_root(load(trust.root, resources)), trust.signer)


def load(material: Material, resources: Resources) -> bytes:
    """Return the bytes of a key or certificate, from the policy itself or from where they lie."""
    return material.data or resources.get(material.uri)


def sigstore_steps(
    found: DetachedSignature,
    trust: LoadedKeys | LoadedRoot,
    identity: SignedIdentity,
    subject: SignatureSubject,
) -> Iterator[Finding]:
    """
    Yield the steps for one signature: who signed, then what was signed.

    The caller stops at the first that failed, so that no claim is read before its signature verified.
    """
    yield from trust.verify(found)
    try:
        claims = found.claims()
    except InvalidInputError as error:
        yield Finding(PAYLOAD_RULE, Outcome.FAILED, "a readable claim", error.detail)
        return
    yield from check_claims(claims, identity, subject, untagged_covers_tags=True)


def _keys(materials: tuple[Material, ...], resources: Resources) -> tuple[PublicKey, ...]:
    return tuple(PublicKey.from_pem(load(material, resources)) for material in materials)


def _logs(materials: tuple[Material, ...], resources: Resources) -> tuple[LogKey, ...]:
    return tuple(LogKey(key) for key in _keys(materials, resources))


def _authority(material: Material, resources: Resources) -> Authority:
    try:
        return load_pem_authority(load(material, resources))
    except ValueError as error:
        raise InvalidInputError(
            "trust-root-invalid", "the pinned trust root is malformed", stage=Stage.POLICY, detail=str(error)
        ) from error
