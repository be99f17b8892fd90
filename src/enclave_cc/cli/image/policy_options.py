"""What an image is measured against, and under which name, as options say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.formats.signatures.requirements import KeyTrust, Material, SigstoreSigned, TrustedRootTrust
from enclave_cc.formats.signatures.signer import SignerIdentity
from enclave_cc.image.pull import NO_SIGNATURE_STORE
from enclave_cc.tenant.keys.files import KeyFiles
from enclave_cc.tenant.places.lookaside_directory import open_lookaside
from enclave_cc.tenant.places.names import Place

if TYPE_CHECKING:
    from enclave_cc.formats.signatures.requirements import SigstoreTrust
    from enclave_cc.image.ports import SignatureStore

NameOption = Annotated[
    str, Parameter(name="--as", help="Reference that people pull by; an image in a registry has one.")
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the image is measured against."""

    policy: Annotated[Path | None, Parameter(help="Signature policy (policy.json).")] = None
    key: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Public key instead of a policy; any of several will do.", negative="", show_default=False
        ),
    ] = ()
    insecure_any_name: Annotated[
        bool,
        Parameter(help="Without a policy: accept signatures that name another image or none.", negative=""),
    ] = False
    trusted_root: Annotated[
        Path | None,
        Parameter(help="trusted_root.json instead of a policy: who signed had a certificate, no key."),
    ] = None
    certificate_identity: Annotated[
        str, Parameter(help="With --trusted-root: who has to have signed (address or workflow).")
    ] = ""
    certificate_oidc_issuer: Annotated[
        str, Parameter(help="With --trusted-root: which provider of identities has to have said so.")
    ] = ""
    lookaside: Annotated[
        str, Parameter(help="Where OpenPGP signatures lie: a directory or a URL.", show_default=False)
    ] = ""
    resource: Annotated[
        tuple[str, ...],
        Parameter(
            help="kbs:///A/B/C=FILE: a file that stands in for a broker's resource.",
            negative="",
            show_default=False,
        ),
    ] = ()

    @property
    def given(self) -> bool:
        """Tell whether there is anything to measure against."""
        return self.policy is not None or bool(self.key) or self.trusted_root is not None

    def read_policy(self) -> SignaturePolicy:
        """Read the policy, or make one of the keys; raise ``InvalidInputError`` (verify-policy-missing)."""
        if sum((self.policy is not None, bool(self.key), self.trusted_root is not None)) != 1:
            raise InvalidInputError(
                "verify-policy-missing", "nothing says who has to have signed", stage=Stage.CONFIG
            )
        if self.policy is not None:
            return SignaturePolicy.parse(read(self.policy), allow_files=True)
        return SignaturePolicy((SigstoreSigned(self._trust(), self._identity()),), {})

    def signature_store(self, insecure_http: tuple[str, ...]) -> SignatureStore:
        """Open the place of OpenPGP signatures; without one it is empty."""
        if not self.lookaside:
            return NO_SIGNATURE_STORE
        return open_lookaside(self.lookaside, insecure_http=insecure_http)

    def _trust(self) -> SigstoreTrust:
        """Trust the keys, or the signer that a pinned trust root vouches for."""
        if self.trusted_root is None:
            return KeyTrust(tuple(Material(data=read(path)) for path in self.key))
        if not self.certificate_identity or not self.certificate_oidc_issuer:
            raise InvalidInputError(
                "verify-policy-missing",
                "nothing says who has to have signed",
                stage=Stage.CONFIG,
                detail="--trusted-root needs --certificate-identity and --certificate-oidc-issuer",
            )
        signer = SignerIdentity(self.certificate_identity, self.certificate_oidc_issuer)
        return TrustedRootTrust(Material(data=read(self.trusted_root)), signer)

    def _identity(self) -> SignedIdentity:
        rule = IdentityRule.INSECURE_ANY_NAME if self.insecure_any_name else SignedIdentity().rule
        return SignedIdentity(rule)

    def public_keys(self) -> tuple[PublicKey, ...]:
        """Read the keys."""
        return tuple(PublicKey.from_pem(read(path)) for path in self.key)

    def resources(self) -> KeyFiles:
        """Return what answers for the broker's resources that the policy names."""
        pairs = (text.partition("=") for text in self.resource)
        return KeyFiles({str(ResourceUri.parse(uri)): Path(path) for uri, _, path in pairs})


def reference_for(image: str, name: str) -> Reference:
    """Return the name that people pull by: the one given, else that of an image in a registry."""
    if name:
        return Reference.parse(name)
    place = Place.parse(image)
    if place.reference is None:
        raise InvalidInputError(
            "repository-missing",
            "nothing says for which name the image is",
            stage=Stage.REQUEST,
            detail=image[:200],
        )
    return place.reference
