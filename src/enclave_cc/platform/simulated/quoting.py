"""The quoting enclave's part: turns a REPORT aimed at it into a DCAP quote of version 3.

It has a fixed identity, an attestation key derived from its seal key (so that it survives restarts), and a
report about that key which the platform's PCK signed once. It refuses reports that were not made on this
processor for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.formats.sgx.keys import KeyName, KeyPolicy, KeyRequest
from enclave_cc.formats.sgx.pck_extension import PckExtension
from enclave_cc.formats.sgx.quote import PCK_CHAIN_PEM, QuoteV3
from enclave_cc.formats.sgx.report import Attribute, Report, ReportBody, TargetInfo, verify_report
from enclave_cc.formats.sgx.structure import InvalidStructureError
from enclave_cc.platform.simulated.pki import SIMULATED_FMSPC, SIMULATED_PCE_ID, raw_signature

if TYPE_CHECKING:
    from enclave_cc.platform.simulated.pki import SimulatedPki
    from enclave_cc.platform.simulated.processor import SimulatedCpu

QE_MR_SIGNER: Final = hashlib.sha256(b"enclave-cc simulated quoting enclave signer").digest()
QE_ISV_PROD_ID: Final = 1
QE_ISV_SVN: Final = 1
_PCE_SVN: Final = 1
_AUTH_DATA: Final = bytes(range(32))
# Order of P-256 (FIPS 186-5).
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# 64 bits more than the order has, so that the reduction has no bias (FIPS 186-5, appendix A.2.1).
_SEED_BYTES: Final = 40
# PROVISION is set so that verifiers exercise the attribute mask, as with Intel's quoting enclave.
_IDENTITY: Final = ReportBody(
    flags=Attribute.INIT | Attribute.MODE64 | Attribute.PROVISION_KEY,
    mr_enclave=hashlib.sha256(b"enclave-cc simulated quoting enclave").digest(),
    mr_signer=QE_MR_SIGNER,
    isv_prod_id=QE_ISV_PROD_ID,
    isv_svn=QE_ISV_SVN,
)


class QuotingEnclave:
    """Makes quotes under one PKI for one processor."""

    def __init__(self, cpu: SimulatedCpu, pki: SimulatedPki) -> None:
        self._cpu = cpu
        seal = self._seal_key(b"attestation key")
        seed = HKDF(hashes.SHA256(), _SEED_BYTES, None, b"enclave-cc attestation key").derive(seal)
        scalar = int.from_bytes(seed, "big") % (_P256_ORDER - 1) + 1
        self._attestation_key = ec.derive_private_key(scalar, ec.SECP256R1())
        point = self._attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._public = point[1:]
        self._qe_id = self._seal_key(b"QE_ID")
        pck = pki.issue_pck(
            PckExtension(
                ppid=self._seal_key(b"PPID"),
                cpu_svn=cpu.cpu_svn,
                pce_svn=_PCE_SVN,
                pce_id=SIMULATED_PCE_ID,
                fmspc=SIMULATED_FMSPC,
            )
        )
        self._chain = f"{pck.pem}{pki.ca.pem}{pki.root.pem}\0".encode("ascii")
        bound = hashlib.sha256(self._public + _AUTH_DATA).digest() + bytes(32)
        self._report = cpu.report(_IDENTITY, self.target_info, bound).body
        self._report_signature = raw_signature(pck.key, self._report.pack())

    @property
    def target_info(self) -> TargetInfo:
        """Whom a report must be for to become a quote."""
        return TargetInfo.of(_IDENTITY)

    def quote(self, report: Report) -> bytes:
        """Sign the report's body; RefusedError unless it was made here, for this enclave."""
        key = self._cpu.get_key(_IDENTITY, KeyRequest(KeyName.REPORT, key_id=report.key_id))
        try:
            verify_report(report, key)
        except InvalidStructureError as error:
            raise RefusedError(
                "platform-request-refused",
                "the quoting enclave refused a report",
                stage=Stage.PLATFORM,
                detail=str(error),
            ) from error
        unsigned = QuoteV3(
            qe_svn=QE_ISV_SVN,
            pce_svn=_PCE_SVN,
            qe_id=self._qe_id,
            body=report.body,
            signature=bytes(64),
            attestation_key=self._public,
            qe_report=self._report,
            qe_report_signature=self._report_signature,
            qe_auth_data=_AUTH_DATA,
            certification_type=PCK_CHAIN_PEM,
            certification_data=self._chain,
        )
        return replace(unsigned, signature=raw_signature(self._attestation_key, unsigned.signed)).pack()

    def _seal_key(self, label: bytes) -> bytes:
        key_id = hashlib.sha256(label).digest()
        return self._cpu.get_key(_IDENTITY, KeyRequest(KeyName.SEAL, KeyPolicy.MRSIGNER, key_id=key_id))
