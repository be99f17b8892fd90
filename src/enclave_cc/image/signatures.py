"""
Evaluation of the owner's signature policy for one image.

The policy is looked up under the reference the user asked for. Only payloads whose signature
verified are read; one signature that satisfies key, digest and identity is enough for a
requirement, whatever else lies beside it, and every requirement of the scope has to hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome, member
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.signatures.cosign import PayloadClaim, signature_layers, signature_tag
from enclave_cc.formats.signatures.policy import InsecureAcceptAnything, Reject, SigstoreSigned
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.image.fetched import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.signatures.identity import SignedIdentity
    from enclave_cc.formats.signatures.policy import Scope
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.ports import Registry, Resources

POLICY_RULE: Final = "image.signature.policy"
PRESENT_RULE: Final = "image.signature.present"
KEY_RULE: Final = "image.signature.key"
DIGEST_RULE: Final = "image.signature.digest"

_MISSING: Final = ("signature-missing", "the image is not signed")
_OTHER_KEY: Final = ("signature-key-refused", "the image is signed by another key than the policy names")
_OTHER_IMAGE: Final = ("signature-digest-refused", "the signature found is one of another image")
_OTHER_NAME: Final = ("signature-identity-refused", "the image is signed under another name")
_MALFORMED: Final = ("signature-invalid", "an image signature is malformed")


@dataclass(frozen=True, slots=True)
class FoundSignature:
    """What stood in the registry; the payload has the digest that its descriptor names."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignatureSubject:
    """What has to be signed: the name asked for, and the digests of its manifest and of its index."""

    asked: Reference
    digests: tuple[Digest, ...]


def refuse_rejected(scope: Scope, checks: Checks) -> None:
    """Refuse before anything is fetched where the policy says ``reject``."""
    if any(isinstance(requirement, Reject) for requirement in scope.requirements):
        checks.require(
            Finding(POLICY_RULE, Outcome.FAILED, f"a scope that accepts ({scope.name})", "reject"),
            "signature-policy-rejects",
            "the signature policy rejects the image",
            stage=Stage.POLICY,
        )


def require_signatures(
    subject: SignatureSubject,
    scope: Scope,
    *,
    registry: Registry,
    resources: Resources,
    checks: Checks,
) -> None:
    """
    Require every requirement of a scope.

    Raises ``RefusedError`` (signature-missing, signature-key-refused, signature-digest-refused,
    signature-identity-refused, signature-invalid) with what was compared.
    """
    signed = [requirement for requirement in scope.requirements if isinstance(requirement, SigstoreSigned)]
    found = tuple(_find(subject, registry)) if signed else ()
    for requirement in scope.requirements:
        match requirement:
            case InsecureAcceptAnything():
                checks.note(
                    Finding(POLICY_RULE, Outcome.PASSED, scope.name, "insecureAcceptAnything: not verified")
                )
            case SigstoreSigned():
                key = PublicKey.from_pem(requirement.key_pem or resources.get(requirement.key_uri))
                claims = _authentic_claims(key, found, checks)
                _require_claim(subject, requirement.identity, claims, checks)
            case Reject():
                refuse_rejected(scope, checks)


def _find(subject: SignatureSubject, registry: Registry) -> Iterator[FoundSignature]:
    """List the signatures of all digests; a payload that is not what its descriptor says is none."""
    for digest in subject.digests:
        try:
            body = registry.manifest(subject.asked, digest_or_tag=signature_tag(digest)).body
        except InvalidInputError as error:
            if error.code != "image-not-found":
                raise
            continue
        for layer in signature_layers(Manifest.parse(body)):
            payload = read_blob(registry, subject.asked, layer.payload)
            if Digest.of(payload, layer.payload.digest.algorithm) == layer.payload.digest:
                yield FoundSignature(payload, layer.signature)


def _authentic_claims(
    key: PublicKey, found: tuple[FoundSignature, ...], checks: Checks
) -> list[PayloadClaim]:
    """Return what the holder of the key said; refuse when there is nothing of the kind."""
    present = Outcome.PASSED if found else Outcome.FAILED
    checks.require(
        Finding(PRESENT_RULE, present, "at least 1 signature", f"{len(found)} signatures"),
        *_MISSING,
        stage=Stage.VERIFY,
    )
    authentic = [candidate for candidate in found if _signed_by(key, candidate)]
    actual = key.fingerprint if authentic else f"none of {len(found)} signatures verifies under it"
    checks.require(
        member(KEY_RULE, allowed={key.fingerprint}, actual=actual), *_OTHER_KEY, stage=Stage.VERIFY
    )
    claims = [claim for candidate in authentic if (claim := _claim(candidate, checks)) is not None]
    if not claims:
        finding = Finding(DIGEST_RULE, Outcome.FAILED, "a readable payload", "none")
        checks.require(finding, *_MALFORMED, stage=Stage.VERIFY)
    return claims


def _require_claim(
    subject: SignatureSubject, identity: SignedIdentity, claims: list[PayloadClaim], checks: Checks
) -> None:
    """Accept when one claim is about this image and this name; say which of the two failed."""
    allowed = {str(digest) for digest in subject.digests}
    about_this = [claim for claim in claims if str(claim.manifest_digest) in allowed]
    shown = (about_this or claims)[0]
    checks.require(
        member(DIGEST_RULE, allowed=allowed, actual=str(shown.manifest_digest)),
        *_OTHER_IMAGE,
        stage=Stage.VERIFY,
    )
    identities = [identity.check(subject.asked, claim.docker_reference) for claim in about_this]
    accepted = [finding for finding in identities if finding.outcome is Outcome.PASSED]
    checks.require((accepted or identities)[0], *_OTHER_NAME, stage=Stage.VERIFY)


def _signed_by(key: PublicKey, candidate: FoundSignature) -> bool:
    try:
        key.verify(candidate.payload, candidate.signature)
    except RefusedError:
        return False
    return True


def _claim(candidate: FoundSignature, checks: Checks) -> PayloadClaim | None:
    """Read an authentic payload; one that makes no sense is noted and does not hide the others."""
    try:
        return PayloadClaim.parse(candidate.payload)
    except InvalidInputError as error:
        checks.note(Finding("image.signature.payload", Outcome.SKIPPED, "a cosign payload", error.detail))
        return None
