"""Whether the name inside a signature covers the name that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.oci.reference import Reference

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

RULE: Final = "image.signature.identity"


class IdentityRule(StrEnum):
    """The ``signedIdentity`` types of containers-policy.json(5) that this project evaluates."""

    MATCH_EXACT = "matchExact"
    MATCH_REPO_DIGEST_OR_EXACT = "matchRepoDigestOrExact"
    MATCH_REPOSITORY = "matchRepository"
    EXACT_REPOSITORY = "exactRepository"


@dataclass(frozen=True, slots=True)
class SignedIdentity:
    """A rule, and the repository it names if it names one."""

    rule: IdentityRule = IdentityRule.MATCH_REPO_DIGEST_OR_EXACT
    repository: str = ""

    @classmethod
    def read(cls, fields: Fields) -> SignedIdentity:
        """Read a ``signedIdentity`` object; raise ``ValueError`` or ``InvalidInputError`` otherwise."""
        rule = IdentityRule(fields.text("type"))
        if rule is not IdentityRule.EXACT_REPOSITORY:
            fields.only("type")
            return cls(rule)
        fields.only("type", "dockerRepository")
        named = Reference.parse(fields.text("dockerRepository"), default_tag=None)
        if named.tag is not None or named.digest is not None:
            raise fields.error("dockerRepository", "names more than a repository")
        return cls(rule, named.name)

    def check(self, asked: Reference, signed: str) -> Finding:
        """Compare the reference asked for with the ``docker-reference`` of an authentic payload."""
        try:
            name = Reference.parse(signed, default_tag=None)
        except InvalidInputError:
            return Finding(RULE, Outcome.FAILED, str(asked), signed)
        accepted, expected = self._accepts(asked, name)
        return Finding(RULE, Outcome.PASSED if accepted else Outcome.FAILED, expected, str(name))

    def _accepts(self, asked: Reference, signed: Reference) -> tuple[bool, str]:
        match self.rule:
            case IdentityRule.EXACT_REPOSITORY:
                return signed.name == self.repository, self.repository
            case IdentityRule.MATCH_REPOSITORY:
                return signed.name == asked.name, asked.name
            case IdentityRule.MATCH_EXACT:
                # An exact match is about a tag; a digest cannot be matched (containers-policy.json(5)).
                return asked.digest is None and signed == asked, str(asked)
            case IdentityRule.MATCH_REPO_DIGEST_OR_EXACT:
                return _repo_digest_or_exact(asked, signed), str(asked)


def _repo_digest_or_exact(asked: Reference, signed: Reference) -> bool:
    """
    Repositories must agree, and tags too where the signer wrote one and the user asked for one.

    Cosign signs the repository alone, so a payload without a tag covers every tag.
    """
    if signed.name != asked.name:
        return False
    if signed.digest is not None and asked.digest is not None and signed.digest != asked.digest:
        return False
    return signed.tag is None or asked.tag is None or signed.tag == asked.tag
