"""Where trust in a quote starts: Intel's one root, or the root of one simulated platform. Never both.

Production has a single compiled-in root and no setting for more. A simulated root is a class of its own
that takes only roots that say of themselves that they are simulated, so that neither can stand in for the
other.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_cc.formats.dcap.certificates import (
    Certificate,
    CertificateError,
    split_chain,
    verify_raw_signature,
)
from enclave_cc.formats.dcap.crl import RevocationList
from enclave_cc.formats.dcap.qe_identity import QeIdentity
from enclave_cc.formats.dcap.tcb_info import TcbInfo
from enclave_cc.formats.sgx.pck_extension import PckExtension

# SHA-256 of the DER of "Intel SGX Root CA" (2018 to 2049), as published at
# https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
_INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
# SHA-384 of its public key as an uncompressed point: the `root_key_id` of Intel's verifiers.
_INTEL_ROOT_KEY_ID: Final = (
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
)
SIMULATION_NOTICE: Final = "SIMULATED SGX - NOT INTEL - NO HARDWARE PROTECTION"
# One verifier sees few issuers and, per platform model, few versions of collateral.
_MEMO_ENTRIES: Final = 256


class TrustedRoot:
    """A root and what was already checked under it.

    Only successful checks of immutable bytes are remembered, never a decision that depends on the time.
    """

    simulated: bool

    def __init__(self, der_sha256: str) -> None:
        self.der_sha256 = der_sha256
        self.chain = lru_cache(_MEMO_ENTRIES)(self._chain)
        self.certificate = lru_cache(_MEMO_ENTRIES)(Certificate.from_der)
        self.pck_extension = lru_cache(_MEMO_ENTRIES)(PckExtension.parse)
        self.revocation_list = lru_cache(_MEMO_ENTRIES)(self._revocation_list)
        self.tcb_info = lru_cache(_MEMO_ENTRIES)(TcbInfo.parse)
        self.qe_identity = lru_cache(_MEMO_ENTRIES)(QeIdentity.parse)
        self.verify_issued = lru_cache(_MEMO_ENTRIES)(self._verify_issued)
        self.verify_text = lru_cache(_MEMO_ENTRIES)(self._verify_text)

    def accept(self, root: Certificate) -> bool:
        """Whether this self-signed certificate is the trusted root."""
        return hmac.compare_digest(hashlib.sha256(root.der).hexdigest(), self.der_sha256)

    def _chain(self, pem: str) -> tuple[Certificate, ...]:
        return tuple(self.certificate(der) for der in split_chain(pem))

    def _verify_text(self, text: str, signature: bytes, signer_der: bytes) -> None:
        verify_raw_signature(self.certificate(signer_der).public_key, signature, text.encode())

    def _verify_issued(self, der: bytes, issuer_der: bytes) -> None:
        self.certificate(der).verify_issued_by(self.certificate(issuer_der))

    def _revocation_list(self, der: bytes, issuer_der: bytes) -> RevocationList:
        return RevocationList.verified(der, self.certificate(issuer_der))


class IntelRoot(TrustedRoot):
    """The production root: "Intel SGX Root CA", pinned by certificate and by key."""

    simulated = False

    def __init__(self) -> None:
        super().__init__(_INTEL_ROOT_SHA256)

    def accept(self, root: Certificate) -> bool:
        """As the base class, and the key has Intel's published key id."""
        return super().accept(root) and hmac.compare_digest(root_key_id(root), _INTEL_ROOT_KEY_ID)


class SimulatedRoot(TrustedRoot):
    """Root of one simulated platform: proves only that the holder of that installation's key signed."""

    simulated = True

    def __init__(self, der: bytes) -> None:
        """Take a root certificate that says that it is simulated; CertificateError for any other."""
        try:
            root = Certificate.from_der(der)
        except (ValueError, TypeError) as error:
            raise CertificateError("simulated root: cannot be read") from error
        if root.organization != SIMULATION_NOTICE or root_key_id(root) == _INTEL_ROOT_KEY_ID:
            raise CertificateError("simulated root: does not say that it is simulated")
        super().__init__(hashlib.sha256(der).hexdigest())


def root_key_id(root: Certificate) -> str:
    """SHA-384 of the public key as an uncompressed point, in hexadecimal."""
    point = root.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha384(point).hexdigest()
