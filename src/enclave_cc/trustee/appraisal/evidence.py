"""
Verification of evidence, one verifier for each kind of TEE that the settings name.

1. The evidence holds a quote, and nothing else that we would have to believe.
2. The quote verifies under the root of its kind (``formats.dcap``): Intel's for ``sgx``, that of
   one simulated platform for ``sgx-sim``. Neither root can stand in for the other.
3. REPORT_DATA is the hash of this handshake, padded with zeros.
4. When init-data was sent: CONFIGID is its digest, padded with zeros.

Everything raises ``RefusedError`` with both values of the rule that failed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.core.verdict import Verdict
from enclave_cc.formats.dcap.verify import verify_pck_chain, verify_quote
from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.kbs.runtime_data import report_data
from enclave_cc.trustee.appraisal.claims import sgx_claims

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from enclave_cc.formats.dcap.collateral import Collateral
    from enclave_cc.formats.dcap.trusted_root import TrustedRoot
    from enclave_cc.formats.kbs.messages import Attestation

_FIELD_BYTES: Final = 64


class Tee(StrEnum):
    """The kinds of evidence that are understood."""

    SGX = "sgx"
    SGX_SIM = "sgx-sim"


@dataclass(frozen=True, slots=True)
class VerifiedEvidence:
    """Claims of evidence that is genuine for its kind; whether they are *good* is the policy's question."""

    tee: Tee
    claims: dict[str, object]
    mr_enclave: str
    isv_prod_id: int
    report_data: bytes
    config_id: bytes
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class SgxVerifier:
    """Verifies quotes under one root; ``collateral`` finds what a given quote needs."""

    tee: Tee
    root: TrustedRoot
    collateral: Callable[[bytes], Collateral]
    now: Callable[[], datetime]

    def verify(self, attestation: Attestation) -> VerifiedEvidence:
        """Do steps 1 to 4."""
        quote = _quote(attestation.primary_evidence)
        # Before anybody is asked for collateral: strangers must not make us fetch for chains of their own.
        verify_pck_chain(quote, self.root, self.now())
        verdict = verify_quote(quote, self.collateral(quote), self.root, self.now())
        evidence = VerifiedEvidence(
            tee=self.tee,
            claims=sgx_claims(quote, verdict),
            mr_enclave=verdict.body.mr_enclave.hex(),
            isv_prod_id=verdict.body.isv_prod_id,
            report_data=verdict.body.report_data,
            config_id=verdict.body.config_id,
            findings=verdict.findings,
        )
        bindings = _bindings(evidence, attestation)
        Verdict((*evidence.findings, *bindings)).require(
            "evidence-not-bound", "the evidence does not belong to this handshake", stage=Stage.ATTEST
        )
        return evidence


def _quote(evidence: object) -> bytes:
    """Do step 1."""
    try:
        return base64.b64decode(Fields(evidence, "evidence").text("quote"), validate=True)
    except (FieldError, binascii.Error, ValueError) as error:
        raise RefusedError(
            "evidence-malformed", "the evidence cannot be read", stage=Stage.ATTEST, detail=str(error)
        ) from error


def _bindings(evidence: VerifiedEvidence, attestation: Attestation) -> list[Finding]:
    """Do steps 3 and 4."""
    expected = report_data(attestation.nonce, attestation.tee_key, attestation.additional_evidence)
    findings = [_padded("sgx.report_data", expected, evidence.report_data)]
    if attestation.init_data is None:
        findings.append(Finding("sgx.config_id", Outcome.SKIPPED, "(no init-data was sent)"))
    else:
        digest = initdata_digest(attestation.init_data)
        findings.append(_padded("sgx.config_id", digest, evidence.config_id))
    return findings


def _padded(rule: str, expected: bytes, actual: bytes) -> Finding:
    return equal(rule, expected=expected.ljust(_FIELD_BYTES, b"\0").hex(), actual=actual.hex())
