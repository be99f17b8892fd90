"""What an authentic signature has to say: this image, under this name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.findings import Finding, Outcome, member
from enclave_cc.image.signatures.attempt import DIGEST_RULE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.formats.signatures.claim import SignedClaim
    from enclave_cc.formats.signatures.identity import SignedIdentity
    from enclave_cc.image.signatures.subject import SignatureSubject


def check_claims(
    claims: Sequence[SignedClaim],
    identity: SignedIdentity,
    subject: SignatureSubject,
    *,
    untagged_covers_tags: bool,
) -> Iterator[Finding]:
    """Yield whether a claim is about this image, then whether one of those is for the name asked for."""
    about_this = [claim for claim in claims if str(claim.manifest_digest) in subject.digests]
    shown = (about_this or claims)[0]
    yield member(DIGEST_RULE, allowed=subject.digests, actual=str(shown.manifest_digest))
    identities = [
        identity.check(subject.asked, claim.docker_reference, untagged_covers_tags=untagged_covers_tags)
        for claim in about_this
    ]
    accepted = [finding for finding in identities if finding.outcome is Outcome.PASSED]
    yield (accepted or identities)[0]
