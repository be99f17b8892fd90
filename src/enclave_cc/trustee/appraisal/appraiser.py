"""
The appraisal of one attestation, step by step.

(1) The verifier of its kind says what the evidence proves; a kind without verifier is refused.
(2) Claims are compared with the reference values.
(3) The attestation policy turns claims and comparisons into a trust vector.
(4) Simulated hardware never counts as hardware, whatever the policy says.
(5) The result is signed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import member
from enclave_cc.formats.kbs.runtime_data import runtime_data
from enclave_cc.formats.owner import bounded_toml
from enclave_cc.trustee.appraisal.comparison import compare
from enclave_cc.trustee.appraisal.evidence import Tee
from enclave_cc.trustee.appraisal.trust_vector import TrustVector
from enclave_cc.trustee.policy.library import PolicyId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.findings import Finding
    from enclave_cc.formats.kbs.messages import Attestation
    from enclave_cc.trustee.appraisal.ear import TokenIssuer
    from enclave_cc.trustee.appraisal.evidence import SgxVerifier, VerifiedEvidence
    from enclave_cc.trustee.policy.engine import PolicyEngine
    from enclave_cc.trustee.policy.library import PolicyLibrary
    from enclave_cc.trustee.reference_values.register import ReferenceValues

_TRUST_CLAIMS: Final = "data.policy.trust_claims"
_EXTENSIONS: Final = "data.policy.extensions"
# Texts of init-data that policies want as objects.
_TOML_DOCUMENTS: Final = ("enclave-cc.toml", "cdh.toml", "aa.toml")


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The token for the client; status and findings for the owner's log."""

    token: str
    tee: Tee
    status: str
    findings: tuple[Finding, ...]
    measurement: str = ""


@dataclass(frozen=True, slots=True)
class Appraiser:
    """Everything that an appraisal needs."""

    verifiers: Mapping[Tee, SgxVerifier]
    reference_values: ReferenceValues
    policies: PolicyLibrary
    engine: PolicyEngine
    issuer: TokenIssuer

    def require_supported(self, tee: str) -> Tee:
        """Return the kind of evidence; raise ``RefusedError`` (``tee-not-accepted``) for others."""
        finding = member("tee", allowed={str(known) for known in self.verifiers}, actual=tee[:100])
        if tee not in set(self.verifiers):
            raise RefusedError(
                "tee-not-accepted",
                "this kind of evidence is not accepted",
                stage=Stage.ATTEST,
                findings=(finding,),
            )
        return Tee(tee)

    def appraise(self, tee: Tee, attestation: Attestation) -> Appraisal:
        """Do steps 1 to 5; raise a member of the error family with the findings so far."""
        if attestation.additional_evidence:
            raise RefusedError(
                "evidence-malformed",
                "the evidence cannot be read",
                stage=Stage.ATTEST,
                detail="additional evidence is not accepted",
            )
        evidence = self.verifiers[tee].verify(attestation)
        values = self.reference_values.current()
        comparisons = compare(evidence, values)
        annotated = _annotated(evidence, attestation)
        vector, extensions = self._decide(annotated, comparisons, values)
        if tee is Tee.SGX_SIM:
            vector = vector.simulated()
        token = self.issuer.issue(annotated, vector, extensions)
        findings = (*evidence.findings, *comparisons, *vector.findings())
        return Appraisal(token, tee, vector.status, findings, evidence.mr_enclave)

    def _decide(
        self, annotated: dict[str, object], comparisons: tuple[Finding, ...], values: Mapping[str, object]
    ) -> tuple[TrustVector, dict[str, object]]:
        """Do step 3."""
        outcomes = {finding.rule: str(finding.outcome) for finding in comparisons}
        results = self.engine.evaluate(
            self.policies.text(PolicyId.ATTESTATION_CPU),
            (_TRUST_CLAIMS, _EXTENSIONS),
            document=annotated,
            data={"findings": outcomes, "reference_values": dict(values)},
        )
        return TrustVector.parse(results.get(_TRUST_CLAIMS)), _extensions(results.get(_EXTENSIONS))


def _annotated(evidence: VerifiedEvidence, attestation: Attestation) -> dict[str, object]:
    """Return the policy's input: claims under the TEE's name, the bindings beside them."""
    return {
        str(evidence.tee): evidence.claims,
        "report_data": evidence.report_data.hex(),
        "runtime_data_claims": runtime_data(
            attestation.nonce, attestation.tee_key, attestation.additional_evidence
        ),
        "init_data": evidence.config_id.hex(),
        "init_data_claims": _init_data_claims(attestation.init_data),
    }


def _init_data_claims(text: str | None) -> dict[str, object] | None:
    """Return the texts of verified init-data, known TOML documents parsed."""
    if text is None:
        return None
    members = bounded_toml.loads(text.encode()).get("data")
    texts = members.items() if isinstance(members, dict) else ()
    # The specification knows texts only; a date or an infinity has no form in the token.
    claims: dict[str, object] = {name: value for name, value in texts if isinstance(value, str)}
    for name in _TOML_DOCUMENTS:
        document = claims.get(name)
        if isinstance(document, str):
            claims[name] = _parsed(document)
    return claims


def _parsed(document: str) -> object:
    """Return a TOML document as an object where JSON can say the same, its text otherwise."""
    try:
        value = bounded_toml.loads(document.encode())
        json.dumps(value, allow_nan=False)
    except (bounded_toml.InvalidTomlError, TypeError, ValueError):
        return document
    return value


def _extensions(value: object) -> dict[str, object]:
    """Take what a policy adds to the token; names of ours it cannot take, they are written after."""
    if not isinstance(value, list):
        return {}
    return {
        item["name"]: item["value"]
        for item in value
        if isinstance(item, dict) and isinstance(item.get("name"), str) and "value" in item
    }
