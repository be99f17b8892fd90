"""Verification of an SGX DCAP quote, version 3.

The order follows Intel's Quote Verification Library (its steps 4.1.2.*); profile and roles are checked more
strictly.

1. The quote is well-formed and carries its PCK certificate chain (certification data type 5).
2. PCK chain: exactly leaf, CA, root; each in its role, issued by the next, valid now; the root is trusted.
3. Revocation lists of root and PCK CA: signed by them, current; none of the certificates is revoked.
4. The leaf's SGX extension says which platform this is.
5. TCB information: signed by a TCB signing certificate directly below the root, not revoked, current,
   for this platform.
6. Identity of the quoting enclave: signed and current likewise.
7. The report of the quoting enclave is signed by the PCK, names the attestation key, and has that identity.
8. Header and report body are signed by the attestation key.
9. TCB level: the best level that the platform reaches, brought together with that of the quoting enclave.

A verdict says what is so, not whether that is good enough: status, DEBUG and measurements are for the
caller's policy. Only a revoked TCB, and one below every level, is refused here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from enclave_cc.formats.dcap.certificates import verify_raw_signature
from enclave_cc.formats.dcap.checks import Checks
from enclave_cc.formats.dcap.issuers import Issuers
from enclave_cc.formats.dcap.tcb_info import TcbStatus
from enclave_cc.formats.dcap.trusted_root import root_key_id
from enclave_cc.formats.sgx.quote import PCK_CHAIN_PEM, QuoteV3

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from enclave_cc.core.findings import Finding
    from enclave_cc.formats.dcap.certificates import Certificate
    from enclave_cc.formats.dcap.collateral import Collateral
    from enclave_cc.formats.dcap.crl import RevocationList
    from enclave_cc.formats.dcap.qe_identity import QeIdentity, QeLevel
    from enclave_cc.formats.dcap.tcb_info import TcbInfo, TcbLevel
    from enclave_cc.formats.dcap.trusted_root import TrustedRoot
    from enclave_cc.formats.sgx.pck_extension import PckExtension
    from enclave_cc.formats.sgx.report import ReportBody

# An old quoting enclave makes the platform at best out of date (Intel's convergeTcbStatusWithQeTcbStatus).
_WITH_OLD_QE: Final[Mapping[TcbStatus, TcbStatus]] = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}


@dataclass(frozen=True, slots=True)
class QuoteVerdict:
    """What a verified quote says, and how current the platform is."""

    status: TcbStatus
    platform_status: TcbStatus
    qe_status: TcbStatus
    advisory_ids: tuple[str, ...]
    body: ReportBody
    quote: QuoteV3
    pck: PckExtension
    tcb_date: dt.datetime
    tcb_eval_num: int
    earliest_issue: dt.datetime
    latest_issue: dt.datetime
    earliest_expiration: dt.datetime
    pck_crl_num: int
    root_ca_crl_num: int
    root_key_id: str
    simulated: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Platform:
    """Outcome of steps 2 to 4."""

    leaf: Certificate
    root: Certificate
    root_crl: RevocationList
    pck_crl: RevocationList
    pck: PckExtension


def verify_quote(quote: bytes, collateral: Collateral, root: TrustedRoot, now: dt.datetime) -> QuoteVerdict:
    """Verify `quote` as of `now` (aware); RefusedError with a `quote-…` code and all findings otherwise."""
    checks = Checks()
    issuers = Issuers(checks, root, now)
    parsed = _step_1_read(checks, quote)
    platform = _steps_2_to_4_platform(checks, issuers, parsed, collateral, root)
    tcb_info = _step_5_tcb_info(checks, issuers, collateral, root, platform)
    identity = _step_6_qe_identity(checks, issuers, collateral, root, platform)
    qe_level = _step_7_quoting_enclave(checks, parsed, platform.leaf, identity)
    _step_8_quote_signature(checks, parsed)
    level, status = _step_9_tcb_status(checks, tcb_info, platform.pck, qe_level)
    return QuoteVerdict(
        status=status,
        platform_status=level.status,
        qe_status=qe_level.status,
        advisory_ids=tuple(dict.fromkeys(level.advisory_ids + qe_level.advisory_ids)),
        body=parsed.body,
        quote=parsed,
        pck=platform.pck,
        tcb_date=level.tcb_date,
        tcb_eval_num=min(tcb_info.evaluation_number, identity.evaluation_number),
        earliest_issue=min(issuers.issued),
        latest_issue=max(issuers.issued),
        earliest_expiration=min(issuers.expires),
        pck_crl_num=platform.pck_crl.number,
        root_ca_crl_num=platform.root_crl.number,
        root_key_id=root_key_id(platform.root),
        simulated=root.simulated,
        findings=checks.findings,
    )


def verify_pck_chain(quote: bytes, root: TrustedRoot, now: dt.datetime) -> None:
    """Do what of steps 1 and 2 needs no collateral, so that nothing is fetched for a stranger's quote."""
    checks = Checks()
    parsed = _step_1_read(checks, quote)
    Issuers(checks, root, now).pck_chain(_pck_pem(checks, parsed))


def _step_1_read(checks: Checks, data: bytes) -> QuoteV3:
    quote = checks.attempt("quote-malformed", "quote is well-formed", lambda: QuoteV3.parse(data))
    checks.equal(
        "quote-malformed",
        "certification data is a PCK chain",
        expected=PCK_CHAIN_PEM,
        actual=quote.certification_type,
    )
    return quote


def _pck_pem(checks: Checks, quote: QuoteV3) -> str:
    return checks.attempt(
        "quote-certificate-refused",
        "PCK chain is text",
        lambda: quote.certification_data.rstrip(b"\0").decode("ascii"),
    )


def _steps_2_to_4_platform(
    checks: Checks, issuers: Issuers, quote: QuoteV3, collateral: Collateral, trusted: TrustedRoot
) -> _Platform:
    refused = "quote-certificate-refused"
    leaf, ca, root = issuers.pck_chain(_pck_pem(checks, quote))
    root_crl = issuers.revocation_list("root revocation list", collateral.root_ca_crl, root)
    pck_crl = issuers.revocation_list("PCK revocation list", collateral.pck_crl, ca)
    issuers.not_revoked("root", root, root_crl)
    issuers.not_revoked("PCK CA", ca, root_crl)
    issuers.not_revoked("PCK certificate", leaf, pck_crl)
    pck = checks.attempt(
        refused, "SGX extension is well-formed", lambda: trusted.pck_extension(leaf.sgx_extension or b"")
    )
    return _Platform(leaf, root, root_crl, pck_crl, pck)


def _step_5_tcb_info(
    checks: Checks, issuers: Issuers, collateral: Collateral, root: TrustedRoot, platform: _Platform
) -> TcbInfo:
    text = collateral.tcb_info
    issuers.signed_text(
        "TCB information",
        text,
        collateral.tcb_info_signature,
        collateral.tcb_info_issuer_chain,
        platform.root_crl,
    )
    info = checks.attempt(
        "quote-collateral-refused", "TCB information is well-formed", lambda: root.tcb_info(text)
    )
    issuers.dated("TCB information", info.issue_date, info.next_update)
    mismatch = "quote-collateral-mismatch"
    checks.equal(mismatch, "TCB information FMSPC", expected=platform.pck.fmspc, actual=info.fmspc)
    checks.equal(mismatch, "TCB information PCEID", expected=platform.pck.pce_id, actual=info.pce_id)
    return info


def _step_6_qe_identity(
    checks: Checks, issuers: Issuers, collateral: Collateral, root: TrustedRoot, platform: _Platform
) -> QeIdentity:
    text = collateral.qe_identity
    issuers.signed_text(
        "QE identity",
        text,
        collateral.qe_identity_signature,
        collateral.qe_identity_issuer_chain,
        platform.root_crl,
    )
    identity = checks.attempt(
        "quote-collateral-refused", "QE identity is well-formed", lambda: root.qe_identity(text)
    )
    issuers.dated("QE identity", identity.issue_date, identity.next_update)
    return identity


def _step_7_quoting_enclave(
    checks: Checks, quote: QuoteV3, leaf: Certificate, identity: QeIdentity
) -> QeLevel:
    code, report = "quote-qe-refused", quote.qe_report
    checks.attempt(
        code,
        "QE report is signed by the PCK",
        lambda: verify_raw_signature(leaf.public_key, quote.qe_report_signature, report.pack()),
    )
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    checks.equal(code, "QE report names the attestation key", expected=bound, actual=report.report_data)
    masked_misc = report.misc_select & identity.misc_select_mask
    checks.equal(code, "QE MISCSELECT", expected=identity.misc_select, actual=masked_misc)
    pairs = zip(report.attributes, identity.attributes_mask, strict=True)
    masked = bytes(attribute & mask for attribute, mask in pairs)
    checks.equal(code, "QE ATTRIBUTES", expected=identity.attributes, actual=masked)
    checks.require(code, "QE is no debug enclave", holds=not report.debug)
    checks.equal(code, "QE MRSIGNER", expected=identity.mr_signer, actual=report.mr_signer)
    checks.equal(code, "QE ISVPRODID", expected=identity.isv_prod_id, actual=report.isv_prod_id)
    return checks.present(
        "quote-tcb-unsupported",
        "QE ISVSVN reaches a level",
        identity.level_of(report.isv_svn),
        actual=str(report.isv_svn),
    )


def _step_8_quote_signature(checks: Checks, quote: QuoteV3) -> None:
    point = b"\x04" + quote.attestation_key
    key = checks.attempt(
        "quote-signature-refused",
        "attestation key is a point of P-256",
        lambda: ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point),
    )
    checks.attempt(
        "quote-signature-refused",
        "quote is signed by the attestation key",
        lambda: verify_raw_signature(key, quote.signature, quote.signed),
    )


def _step_9_tcb_status(
    checks: Checks, info: TcbInfo, pck: PckExtension, qe_level: QeLevel
) -> tuple[TcbLevel, TcbStatus]:
    level = checks.present(
        "quote-tcb-unsupported",
        "platform reaches a TCB level",
        info.level_of(pck.cpu_svn, pck.pce_svn),
        actual=f"{pck.cpu_svn.hex()} PCESVN {pck.pce_svn}",
    )
    checks.require(
        "quote-tcb-revoked",
        "TCB is not revoked",
        holds=TcbStatus.REVOKED not in (level.status, qe_level.status),
        actual=f"platform {level.status}, QE {qe_level.status}",
    )
    if qe_level.status is TcbStatus.UP_TO_DATE:
        return level, level.status
    return level, _WITH_OLD_QE.get(level.status, level.status)
