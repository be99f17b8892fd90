"""
Signature policies in the format of containers-policy.json(5), read so that doubt means no.

A member or a type that is not understood here might be the one that makes the policy strict, so
it invalidates the whole document. An empty list of requirements does too. Evaluation lives with
the caller; this module says which requirements apply to a reference.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.signatures.identity import SignedIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from enclave_cc.formats.oci.reference import Reference

MAX_POLICY_BYTES: Final = 1 << 20

_DOCKER: Final = "docker"
# Known to policy files of whole machines; their scopes never apply here, but they must parse.
_OTHER_TRANSPORTS: Final = frozenset(
    {
        "atomic",
        "containers-storage",
        "dir",
        "docker-archive",
        "docker-daemon",
        "oci",
        "oci-archive",
        "ostree",
        "sif",
        "tarball",
    }
)
_KBS: Final = "kbs:///"
_PEM: Final = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class InsecureAcceptAnything:
    """Accept without any signature."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Never accept."""


@dataclass(frozen=True, slots=True)
class SigstoreSigned:
    """Accept what this key signed for this name; exactly one of the two key members is set."""

    key_uri: str = ""
    key_pem: bytes = b""
    identity: SignedIdentity = SignedIdentity()  # noqa: RUF009  # frozen, so that sharing one is safe


Requirement = InsecureAcceptAnything | Reject | SigstoreSigned


@dataclass(frozen=True, slots=True)
class Scope:
    """The requirements that apply to a reference, all of which must hold, and the scope that chose them."""

    name: str
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Requirements by scope, and those for everything else."""

    default: tuple[Requirement, ...]
    scopes: Mapping[str, tuple[Requirement, ...]]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a policy; raise ``InvalidInputError`` (signature-policy-invalid) for any doubt."""
        with foreign("signature-policy-invalid", "the signature policy is malformed", stage=Stage.POLICY):
            fields = read_object(data, "policy", max_bytes=MAX_POLICY_BYTES)
            fields.only("default", "transports")
            transports = fields.object("transports")
            transports.only(_DOCKER, *_OTHER_TRANSPORTS)
            by_transport = {name: _scopes(transports.object(name)) for name in transports.names()}
            return cls(_requirements(fields, "default"), by_transport.get(_DOCKER, {}))

    @classmethod
    def insecure_accept_anything(cls) -> Self:
        """Make the policy of an owner who said in measured settings that nothing need be signed."""
        return cls((InsecureAcceptAnything(),), {})

    def scope_for(self, reference: Reference) -> Scope:
        """Find the most specific scope of a reference, the default if none names it."""
        for name in _candidates(reference):
            requirements = self.scopes.get(name)
            if requirements is not None:
                return Scope(f"docker {name!r}", requirements)
        return Scope("default", self.default)


def _candidates(reference: Reference) -> Iterator[str]:
    """List scopes as containers-policy.json(5) orders them: exact, parents, host, wildcards, everything."""
    yield str(reference)
    name = reference.name
    while name:
        yield name
        name = name.rpartition("/")[0]
    host = reference.registry.rpartition(":")[0] if ":" in reference.registry else reference.registry
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""


def _scopes(fields: Fields) -> dict[str, tuple[Requirement, ...]]:
    return {name: _requirements(fields, name) for name in fields.names()}


def _requirements(fields: Fields, name: str) -> tuple[Requirement, ...]:
    entries = fields.array(name)
    if not entries:
        raise fields.error(name, "lists no requirement")
    return tuple(_requirement(Fields(entry, f"policy.{name}")) for entry in entries)


def _requirement(fields: Fields) -> Requirement:
    match fields.text("type"):
        case "insecureAcceptAnything":
            fields.only("type")
            return InsecureAcceptAnything()
        case "reject":
            fields.only("type")
            return Reject()
        case "sigstoreSigned":
            return _sigstore_signed(fields)
        case _:
            raise fields.error("type", "is not supported")


def _sigstore_signed(fields: Fields) -> SigstoreSigned:
    fields.only("type", "keyPath", "keyData", "signedIdentity")
    if fields.has("keyPath") == fields.has("keyData"):
        raise fields.error("keyPath", "exactly one of keyPath and keyData is needed")
    identity = SignedIdentity()
    if fields.has("signedIdentity"):
        identity = SignedIdentity.read(fields.object("signedIdentity"))
    if fields.has("keyData"):
        return SigstoreSigned(key_pem=_key_data(fields), identity=identity)
    uri = fields.text("keyPath")
    if not uri.startswith(_KBS):
        raise fields.error("keyPath", "is not a resource of the broker")
    return SigstoreSigned(key_uri=uri, identity=identity)


def _key_data(fields: Fields) -> bytes:
    """Read PEM text, plain or in base64 as containers-policy.json(5) has it."""
    text = fields.text("keyData")
    if text.lstrip().startswith(_PEM):
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.error("keyData", "is neither PEM nor base64") from error
