"""What an image is measured against, and under which name, as options say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.formats.signatures.requirements import KeyTrust, Material, SigstoreSigned
from enclave_cc.tenant.key_files import KeyFiles
from enclave_cc.tenant.places.names import Place

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
        Parameter(help="With --key: accept signatures that name another image or none.", negative=""),
    ] = False
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
        return self.policy is not None or bool(self.key)

    def read_policy(self) -> SignaturePolicy:
        """Read the policy, or make one of the keys; raise ``InvalidInputError`` (verify-policy-missing)."""
        if (self.policy is None) == (not self.key):
            raise InvalidInputError(
                "verify-policy-missing", "nothing says who has to have signed", stage=Stage.CONFIG
            )
        if self.policy is not None:
            return SignaturePolicy.parse(read(self.policy), allow_files=True)
        keys = KeyTrust(tuple(Material(data=read(path)) for path in self.key))
        rule = IdentityRule.INSECURE_ANY_NAME if self.insecure_any_name else SignedIdentity().rule
        return SignaturePolicy((SigstoreSigned(keys, SignedIdentity(rule)),), {})

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
