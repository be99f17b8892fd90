"""
Which requirements apply, and whether each of them holds.

The policy is looked up under the reference the user asked for, and nothing is taken from a cache of
earlier decisions. One signature that satisfies a requirement is enough for it, whatever else lies
beside it, and every requirement of the scope has to hold.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.signatures.requirements import (
    InsecureAcceptAnything,
    Reject,
    SignedBy,
    SigstoreSigned,
)
from enclave_cc.image.signatures.attempt import Attempt, best_of
from enclave_cc.image.signatures.found import FoundSignatures
from enclave_cc.image.signatures.openpgp import load_keyring, openpgp_steps
from enclave_cc.image.signatures.sigstore import load_trust, sigstore_steps
from enclave_cc.image.signatures.simple import SimpleSignatures

if TYPE_CHECKING:
    from enclave_cc.formats.signatures.policy import Scope
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.ports import Registry, Resources, SignatureStore
    from enclave_cc.image.signatures.subject import SignatureSubject

POLICY_RULE: Final = "image.signature.policy"


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
    store: SignatureStore,
    checks: Checks,
) -> None:
    """
    Require every requirement of a scope.

    Raises ``RefusedError`` (signature-missing, signature-key-refused, signature-log-refused,
    signature-certificate-refused, signature-signer-refused, signature-digest-refused,
    signature-identity-refused, signature-invalid, signature-hash-refused, signature-key-expired,
    signature-expired) with what was compared.
    """
    found = FoundSignatures(subject, registry, checks)
    simple = SimpleSignatures(subject, store)
    for requirement in scope.requirements:
        match requirement:
            case InsecureAcceptAnything():
                checks.note(
                    Finding(POLICY_RULE, Outcome.PASSED, scope.name, "insecureAcceptAnything: not verified")
                )
            case SigstoreSigned():
                trust = load_trust(requirement.trust, resources)
                attempts = (
                    Attempt.of(sigstore_steps(signature, trust, requirement.identity, subject))
                    for signature in found
                )
                best_of(attempts, expected="at least 1 signature").record(checks)
            case SignedBy():
                now = dt.datetime.now(dt.UTC)
                keyring = load_keyring(requirement.keyrings, resources, now=now)
                attempts = (
                    Attempt.of(openpgp_steps(data, keyring, requirement.identity, subject, now=now))
                    for data in simple
                )
                best_of(attempts, expected="at least 1 simple signature").record(checks)
            case Reject():
                refuse_rejected(scope, checks)
