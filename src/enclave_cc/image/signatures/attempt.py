"""
One signature against one requirement: the findings of its steps, up to the first that failed.

Anybody who may push can put signatures beside an image, so attempts may fail without harm. What is shown
when all fail is the one that came furthest, because it is the one that somebody meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.openpgp import messages as openpgp
from enclave_cc.formats.signatures import identity
from enclave_cc.formats.sigstore import keyless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enclave_cc.image.checks import Checks

PRESENT_RULE: Final = "image.signature.present"
PAYLOAD_RULE: Final = "image.signature.payload"
DIGEST_RULE: Final = "image.signature.digest"

_SIGNER: Final = ("signature-signer-refused", "the image is signed by somebody else than the policy names")
_CERTIFICATE: Final = (
    "signature-certificate-refused",
    "the certificate of an image signature is not trusted",
)
# Each rule's code and what the host may know of it.
_REFUSALS: Final = {
    PRESENT_RULE: ("signature-missing", "the image is not signed"),
    PAYLOAD_RULE: ("signature-invalid", "an image signature is malformed"),
    DIGEST_RULE: ("signature-digest-refused", "the signature found is one of another image"),
    identity.RULE: ("signature-identity-refused", "the image is signed under another name"),
    keyless.KEY_RULE: (
        "signature-key-refused",
        "the image is signed by another key than the policy names",
    ),
    openpgp.MESSAGE_RULE: ("signature-invalid", "an image signature is malformed"),
    openpgp.HASH_RULE: ("signature-hash-refused", "an image signature uses a weak hash"),
    openpgp.STATUS_RULE: ("signature-key-expired", "the key of an image signature is expired or revoked"),
    openpgp.EXPIRY_RULE: ("signature-expired", "the image signature has expired"),
    keyless.LOG_RULE: ("signature-log-refused", "no pinned log has seen the image signature"),
    keyless.CERTIFICATE_RULE: _CERTIFICATE,
    keyless.CERTIFICATE_LOG_RULE: _CERTIFICATE,
    keyless.SIGNER_RULE: _SIGNER,
    keyless.ISSUER_RULE: _SIGNER,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """Findings in the order of evaluation; only the last one may have failed."""

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, steps: Iterable[Finding]) -> Attempt:
        """Run steps until one fails; those after it are never evaluated."""
        findings = []
        for finding in steps:
            findings.append(finding)
            if finding.outcome is Outcome.FAILED:
                break
        return cls(tuple(findings))

    @property
    def passed(self) -> bool:
        """Tell whether every step passed, of which there has to be one."""
        return bool(self.findings) and all(one.outcome is Outcome.PASSED for one in self.findings)

    def record(self, checks: Checks) -> None:
        """Record the findings; raise ``RefusedError`` with the code of the one that failed."""
        for finding in self.findings:
            checks.require(finding, *_REFUSALS[finding.rule], stage=Stage.VERIFY)


def best_of(attempts: Iterable[Attempt], *, expected: str) -> Attempt:
    """Return the first attempt that passed, else the one that came furthest, else one that says "none"."""
    best: Attempt | None = None
    for attempt in attempts:
        if attempt.passed:
            return attempt
        if best is None or len(attempt.findings) > len(best.findings):
            best = attempt
    return best or Attempt((Finding(PRESENT_RULE, Outcome.FAILED, expected, "0 signatures"),))
