"""
Would an enclave with this policy accept this image? Answered by the code that decides inside the enclave.

Nothing is decided here: the answer is the evaluation's own, with its findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError
from enclave_cc.image.pull import LINUX_AMD64, NO_SIGNATURE_STORE, verify_image

if TYPE_CHECKING:
    from enclave_cc.core.digest import Digest
    from enclave_cc.core.findings import Finding
    from enclave_cc.formats.oci.descriptor import Platform
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.signatures.policy import SignaturePolicy
    from enclave_cc.image.ports import Registry, Resources, SignatureStore


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes with the manifest's digest, or no with the code and the remedy; the findings say why either way."""

    reference: Reference
    findings: tuple[Finding, ...]
    manifest_digest: Digest | None = None
    code: str = ""
    summary: str = ""
    remedy: str = ""

    @property
    def accepted(self) -> bool:
        """Tell whether the answer is yes."""
        return self.manifest_digest is not None

    def to_json(self) -> dict[str, object]:
        """Return the answer as JSON members."""
        members = {
            "reference": str(self.reference),
            "manifest_digest": str(self.manifest_digest or ""),
            "code": self.code,
            "summary": self.summary,
            "remedy": self.remedy,
        }
        shown: dict[str, object] = {name: value for name, value in members.items() if value}
        findings = [finding.to_json() for finding in self.findings]
        return {"accepted": self.accepted, **shown, "findings": findings}


def ask(
    reference: Reference,
    *,
    registry: Registry,
    resources: Resources,
    policy: SignaturePolicy,
    signature_store: SignatureStore = NO_SIGNATURE_STORE,
    require_encrypted: bool = False,
    platform: Platform = LINUX_AMD64,
) -> Answer:
    """
    Evaluate; a refusal is an answer.

    Raises ``InvalidInputError`` for documents and keys that do not parse and ``UnavailableError``.
    """
    try:
        image = verify_image(
            reference,
            manifest_digest=None,
            registry=registry,
            resources=resources,
            policy=policy,
            signature_store=signature_store,
            require_encrypted=require_encrypted,
            platform=platform,
        )
    except RefusedError as error:
        return Answer(reference, error.findings, code=error.code, summary=error.summary, remedy=error.remedy)
    return Answer(reference, image.findings, image.manifest_digest)
