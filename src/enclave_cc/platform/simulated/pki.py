"""The simulated platform's own provisioning PKI: plays Intel's root, PCK CA and TCB signer.

Names keep the phrases that verifiers look for and say openly that nothing here is Intel's. The default TCB
level is `SWHardeningNeeded` with an advisory of our own, so that a strict policy refuses it without
knowing us.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from enclave_cc.formats import der
from enclave_cc.formats.dcap.trusted_root import SIMULATION_NOTICE
from enclave_cc.formats.sgx.pck_extension import SGX_EXTENSION_OID

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.sgx.pck_extension import PckExtension

    KeyStore = Callable[[str, Callable[[], bytes]], bytes]

# "SIM" in ASCII; no Intel platform has this model.
SIMULATED_FMSPC: Final = b"SIM\0\0\0"
SIMULATED_PCE_ID: Final = bytes(2)
# Netscape comment: the one well-known extension that holds free text.
_COMMENT: Final = x509.ObjectIdentifier("2.16.840.1.113730.1.13")
_SGX_EXTENSION: Final = x509.ObjectIdentifier(SGX_EXTENSION_OID)
_DAY: Final = dt.timedelta(days=1)
_ROOT_DAYS: Final = 20 * 365
_CA_DAYS: Final = 10 * 365
_SIGNER_DAYS: Final = 7 * 365
_INTEROP_DAYS: Final = 7


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA-P256-SHA256 as r‖s, 64 bytes."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Authority:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


class SimulatedPki:
    """Root, PCK CA and TCB signer of one installation.

    `interop`: for tests against other verifiers only; the root says so in its name and lives for a week.
    """

    def __init__(self, keys: KeyStore, *, now: dt.datetime, interop: bool = False) -> None:
        """`keys(name, create)` keeps what it once created; `now` dates what is new."""
        self._keys = keys
        self._now = now.replace(microsecond=0)
        self._interop = interop
        mark = " TEST-ONLY" if interop else ""
        self.root = self._authority("root", f"Simulated SGX Root CA{mark}", None, _ROOT_DAYS)
        self.ca = self._authority("ca", "Simulated SGX PCK Processor CA", self.root, _CA_DAYS)
        self.tcb_signer = self._authority(
            "tcb", "Simulated SGX TCB Signing", self.root, _SIGNER_DAYS, ca=False
        )

    def issue_pck(self, extension: PckExtension) -> Authority:
        """Key and certificate of this platform's provisioning certification enclave."""
        name = "Simulated SGX PCK Certificate"
        return self._authority("pck", name, self.ca, _SIGNER_DAYS, ca=False, extension=extension.pack())

    def revocation_list(
        self, issuer: Authority, *, now: dt.datetime, days: int, revoked: tuple[int, ...]
    ) -> bytes:
        """List of `revoked` serial numbers, signed by `issuer`, in DER."""
        start = now.replace(microsecond=0)
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(start)
            .next_update(start + days * _DAY)
            .add_extension(x509.CRLNumber(int(start.timestamp())), critical=False)
            .add_extension(key_id, critical=False)
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def _authority(
        self,
        name: str,
        common_name: str,
        issuer: Authority | None,
        days: int,
        *,
        ca: bool = True,
        extension: bytes | None = None,
    ) -> Authority:
        key = _load_key(self._keys(f"{name}.key", _new_key))
        signer = issuer.key if issuer else key
        subject = _name(common_name)
        issuer_name = issuer.certificate.subject if issuer else subject
        lifetime = min(days, _INTEROP_DAYS) if self._interop else days

        def create() -> bytes:
            builder = _builder(key.public_key(), signer.public_key(), ca=ca, path_length=0 if issuer else 1)
            builder = builder.subject_name(subject).issuer_name(issuer_name)
            builder = builder.not_valid_before(self._now - _DAY).not_valid_after(self._now + lifetime * _DAY)
            if extension is not None:
                unrecognized = x509.UnrecognizedExtension(_SGX_EXTENSION, extension)
                builder = builder.add_extension(unrecognized, critical=False)
            return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

        return Authority(key, x509.load_der_x509_certificate(self._keys(f"{name}.der", create)))


def _builder(
    public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey, *, ca: bool, path_length: int
) -> x509.CertificateBuilder:
    comment = der.write(der.IA5_STRING, SIMULATION_NOTICE.encode("ascii"))
    usage = x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    url = x509.UniformResourceIdentifier("https://simulated-pcs.invalid/sgx/certification/v4/rootcacrl")
    point = x509.DistributionPoint([url], None, None, None)
    return (
        x509.CertificateBuilder()
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
        .add_extension(x509.UnrecognizedExtension(_COMMENT, comment), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SIMULATION_NOTICE),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Simulation"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "SIM"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "ZZ"),
        ]
    )


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_der_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return key
