"""
Signature policies in the format of containers-policy.json(5), read so that doubt means no.

A member or a type that is not understood here might be the one that makes the policy strict, so
it invalidates the whole document. An empty list of requirements does too. Evaluation lives with
the caller; this module says which requirements apply to a reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.signatures.requirement_reader import RequirementReader
from enclave_cc.formats.signatures.requirements import InsecureAcceptAnything
from enclave_cc.formats.signatures.scopes import is_reachable, scope_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.signatures.requirements import Requirement

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
    def parse(cls, data: bytes, *, allow_files: bool = False) -> Self:
        """
        Read a policy; raise ``InvalidInputError`` (signature-policy-invalid) for any doubt.

        Keys lie with the broker; ``allow_files`` is for the owner's own machine, where they may be files.
        """
        with foreign("signature-policy-invalid", "the signature policy is malformed", stage=Stage.POLICY):
            reader = RequirementReader(allow_files=allow_files)
            document = strict_json.loads(data, max_bytes=MAX_POLICY_BYTES)
            _refuse_null(document)
            fields = Fields(document, "policy")
            fields.only("default", "transports")
            transports = fields.object("transports")
            transports.only(_DOCKER, *_OTHER_TRANSPORTS)
            by_transport = {name: _scopes(transports.object(name), reader) for name in transports.names()}
            for name in by_transport.get(_DOCKER, {}):
                if not is_reachable(name):
                    raise transports.error(_DOCKER, f"has a scope that no image belongs to: {name[:256]!r}")
            return cls(_requirements(fields, "default", reader), by_transport.get(_DOCKER, {}))

    @classmethod
    def insecure_accept_anything(cls) -> Self:
        """Make the policy of an owner who said in measured settings that nothing need be signed."""
        return cls((InsecureAcceptAnything(),), {})

    def scope_for(self, reference: Reference) -> Scope:
        """Find the most specific scope of a reference, the default if none names it."""
        for name in scope_names(reference):
            requirements = self.scopes.get(name)
            if requirements is not None:
                return Scope(f"docker {name!r}", requirements)
        return Scope("default", self.default)


def _refuse_null(value: object) -> None:
    """Refuse ``null`` anywhere: what a template left empty was meant to say something, perhaps strict."""
    if value is None:
        raise ValueError("policy: null says nothing")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _refuse_null(one)


def _scopes(fields: Fields, reader: RequirementReader) -> dict[str, tuple[Requirement, ...]]:
    return {name: _requirements(fields, name, reader) for name in fields.names()}


def _requirements(fields: Fields, name: str, reader: RequirementReader) -> tuple[Requirement, ...]:
    entries = fields.array(name)
    if not entries:
        raise fields.error(name, "lists no requirement")
    return tuple(reader.read(Fields(entry, f"policy.{name}")) for entry in entries)
