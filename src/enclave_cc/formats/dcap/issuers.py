"""Steps 2, 3, 5 and 6 of a verification: who signed, whether they may and still may, and until when.

Each chain has a fixed length and fixed roles: a leaf that signs data and no certificates, then authorities
up to the trusted root. Nothing is read from a text before its signature was checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime as dt

    from enclave_cc.formats.dcap.certificates import Certificate
    from enclave_cc.formats.dcap.checks import Checks
    from enclave_cc.formats.dcap.crl import RevocationList
    from enclave_cc.formats.dcap.trusted_root import TrustedRoot

_PCK_CHAIN_LENGTH: Final = 3
_TCB_CHAIN_LENGTH: Final = 2
_REFUSED: Final = "quote-certificate-refused"
_EXPIRED: Final = "quote-collateral-expired"


class Issuers:
    """Checks issuers under one root as of one time, and remembers all dates it met."""

    def __init__(self, checks: Checks, root: TrustedRoot, now: dt.datetime) -> None:
        self._checks = checks
        self._root = root
        self._now = now
        self.issued: list[dt.datetime] = []
        self.expires: list[dt.datetime] = []

    def pck_chain(self, pem: str) -> tuple[Certificate, ...]:
        """PCK certificate, PCK CA (processor or platform), root."""
        chain = self._chain("PCK chain", pem, _PCK_CHAIN_LENGTH)
        leaf, ca, root = chain
        phrases = (("SGX PCK Certificate", leaf), ("CA", ca), ("SGX Root CA", root))
        for phrase, certificate in phrases:
            self._named("PCK chain", phrase, certificate)
        has_extension = leaf.sgx_extension is not None
        self._checks.require(_REFUSED, "PCK certificate has an SGX extension", holds=has_extension)
        return chain

    def revocation_list(self, what: str, der: bytes, issuer: Certificate) -> RevocationList:
        """Revocation list that `issuer` signed and that is current."""
        crl = self._checks.attempt(
            "quote-crl-refused",
            f"{what} is signed by its issuer",
            lambda: self._root.revocation_list(der, issuer.der),
        )
        self.dated(what, crl.this_update, crl.next_update)
        return crl

    def not_revoked(self, what: str, certificate: Certificate, crl: RevocationList) -> None:
        """Refuse a certificate that the list names."""
        revoked = certificate.serial in crl.serials
        self._checks.require(
            "quote-revoked", f"{what} is not revoked", holds=not revoked, actual=f"{certificate.serial:x}"
        )

    def signed_text(self, what: str, text: str, signature: bytes, pem: str, root_crl: RevocationList) -> None:
        """Refuse `text` unless a TCB signing certificate directly below the root signed it."""
        signer, root = self._chain(f"{what} chain", pem, _TCB_CHAIN_LENGTH)
        self._named(f"{what} chain", "SGX TCB Signing", signer)
        self._named(f"{what} chain", "SGX Root CA", root)
        no_pck = signer.sgx_extension is None
        self._checks.require(_REFUSED, f"{what} signer is no PCK certificate", holds=no_pck)
        self.not_revoked(f"{what} signer", signer, root_crl)
        self._checks.attempt(
            "quote-collateral-refused",
            f"{what} is signed by its issuer",
            lambda: self._root.verify_text(text, signature, signer.der),
        )

    def dated(self, what: str, issued: dt.datetime, expires: dt.datetime) -> None:
        """Refuse what is not yet or no longer valid."""
        self._checks.current(_EXPIRED, f"{what} is current", self._now, issued, expires)
        self.issued.append(issued)
        self.expires.append(expires)

    def _chain(self, what: str, pem: str, length: int) -> tuple[Certificate, ...]:
        chain = self._checks.attempt(_REFUSED, f"{what} is well-formed", lambda: self._root.chain(pem))
        self._checks.equal(_REFUSED, f"{what} length", expected=length, actual=len(chain))
        self._checks.require(
            "quote-root-unknown", f"{what} ends at the trusted root", holds=self._root.accept(chain[-1])
        )
        for certificate, issuer in zip(chain, (*chain[1:], chain[-1]), strict=True):
            self._checks.attempt(
                _REFUSED,
                f"{what}: {certificate.common_name} is issued by the next",
                lambda c=certificate, i=issuer: self._root.verify_issued(c.der, i.der),  # type: ignore[misc]
            )
            self._role(what, certificate, leaf=certificate is chain[0])
            self._checks.current(
                _EXPIRED,
                f"{what}: {certificate.common_name} is valid",
                self._now,
                certificate.not_before,
                certificate.not_after,
            )
            self.expires.append(certificate.not_after)
        return chain

    def _role(self, what: str, certificate: Certificate, *, leaf: bool) -> None:
        signs_data = (
            certificate.may_sign_data and not certificate.is_ca and not certificate.may_sign_certificates
        )
        signs_certificates = certificate.is_ca and certificate.may_sign_certificates
        self._checks.require(
            _REFUSED,
            f"{what}: {certificate.common_name} has its place's role",
            holds=signs_data if leaf else signs_certificates,
            expected="signs data" if leaf else "signs certificates",
        )

    def _named(self, what: str, phrase: str, certificate: Certificate) -> None:
        self._checks.require(
            _REFUSED,
            f"{what} has a {phrase}",
            holds=phrase in certificate.common_name,
            expected=phrase,
            actual=certificate.common_name,
        )
