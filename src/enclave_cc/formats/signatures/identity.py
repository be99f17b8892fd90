"""
Whether the name inside a signature covers the name that was asked for: ``signedIdentity``.

Rules of containers-policy.json(5). One is ours: a signature that names no image (a bundle by cosign 3)
satisfies none of the standard rules, and whoever wants to accept it has to write so.
"""

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
    """The ``signedIdentity`` types."""

    MATCH_EXACT = "matchExact"
    MATCH_REPO_DIGEST_OR_EXACT = "matchRepoDigestOrExact"
    MATCH_REPOSITORY = "matchRepository"
    EXACT_REFERENCE = "exactReference"
    EXACT_REPOSITORY = "exactRepository"
    REMAP_IDENTITY = "remapIdentity"
    INSECURE_ANY_NAME = "insecureAnyName"


_MEMBERS: Final = {
    IdentityRule.EXACT_REFERENCE: ("dockerReference",),
    IdentityRule.EXACT_REPOSITORY: ("dockerRepository",),
    IdentityRule.REMAP_IDENTITY: ("prefix", "signedPrefix"),
}


@dataclass(frozen=True, slots=True)
class SignedIdentity:
    """A rule and the names it has; ``named`` is the reference, repository or prefix of its own."""

    rule: IdentityRule = IdentityRule.MATCH_REPO_DIGEST_OR_EXACT
    named: str = ""
    signed_prefix: str = ""

    @classmethod
    def read(cls, fields: Fields) -> SignedIdentity:
        """Read a ``signedIdentity`` object; raise ``ValueError`` or ``InvalidInputError`` otherwise."""
        rule = IdentityRule(fields.text("type"))
        fields.only("type", *_MEMBERS.get(rule, ()))
        match rule:
            case IdentityRule.EXACT_REFERENCE:
                named = Reference.parse(fields.text("dockerReference"), default_tag=None)
                if named.tag is None and named.digest is None:
                    raise fields.error("dockerReference", "has neither tag nor digest")
                return cls(rule, str(named))
            case IdentityRule.EXACT_REPOSITORY:
                return cls(rule, _repository(fields, "dockerRepository"))
            case IdentityRule.REMAP_IDENTITY:
                return cls(rule, _prefix(fields, "prefix"), _prefix(fields, "signedPrefix"))
            case _:
                return cls(rule)

    def check(self, asked: Reference, signed: str, *, untagged_covers_tags: bool) -> Finding:
        """
        Compare the reference asked for with the name in an authentic payload, empty if it has none.

        Cosign signs the repository alone: with ``untagged_covers_tags`` a name without a tag covers every
        tag of its repository.
        """
        if self.rule is IdentityRule.INSECURE_ANY_NAME:
            return Finding(RULE, Outcome.PASSED, "any name", signed or "no name")
        if not signed:
            return Finding(RULE, Outcome.FAILED, str(asked), "the signature names no image")
        try:
            name = Reference.parse(signed, default_tag=None)
        except InvalidInputError:
            return Finding(RULE, Outcome.FAILED, str(asked), signed)
        accepted, expected = self._accepts(asked, name, untagged=untagged_covers_tags)
        return Finding(RULE, Outcome.PASSED if accepted else Outcome.FAILED, expected, str(name))

    def _accepts(self, asked: Reference, signed: Reference, *, untagged: bool) -> tuple[bool, str]:
        match self.rule:
            case IdentityRule.EXACT_REFERENCE:
                return str(signed) == self.named, self.named
            case IdentityRule.EXACT_REPOSITORY:
                return signed.name == self.named, self.named
            case IdentityRule.MATCH_REPOSITORY:
                return signed.name == asked.name, asked.name
            case IdentityRule.MATCH_EXACT:
                # An exact match is about a tag; a digest cannot be matched (containers-policy.json(5)).
                return asked.digest is None and signed == asked, str(asked)
            case IdentityRule.REMAP_IDENTITY:
                remapped = self._remapped(asked)
                return _repo_digest_or_exact(remapped, signed, untagged=untagged), str(remapped)
            case _:
                return _repo_digest_or_exact(asked, signed, untagged=untagged), str(asked)

    def _remapped(self, asked: Reference) -> Reference:
        """
        Replace the prefix where it ends at a border: the whole name, or before a slash.

        ``registry.example/team`` is no prefix of ``registry.example/teamwork``.
        """
        name = asked.name
        if name != self.named and not name.startswith(f"{self.named}/"):
            return asked
        renamed = Reference.parse(self.signed_prefix + name.removeprefix(self.named), default_tag=None)
        return Reference(renamed.registry, renamed.repository, asked.tag, asked.digest)


def _repo_digest_or_exact(asked: Reference, signed: Reference, *, untagged: bool) -> bool:
    """
    With a digest the repositories have to agree, else the tags as well.

    The digest itself is compared with the signed one elsewhere. What both names carry must not
    contradict each other.
    """
    if signed.name != asked.name:
        return False
    if asked.digest is not None:
        return signed.digest in {None, asked.digest} and (
            asked.tag is None or signed.tag in {None, asked.tag}
        )
    if signed.digest is not None:
        return False
    return untagged if signed.tag is None else signed.tag == asked.tag


def _repository(fields: Fields, name: str) -> str:
    named = Reference.parse(fields.text(name), default_tag=None)
    if named.tag is not None or named.digest is not None:
        raise fields.error(name, "names more than a repository")
    return named.name


def _prefix(fields: Fields, name: str) -> str:
    """Read a host, or a repository or a part of it; it is taken as written, so it has to be normal."""
    text = fields.text(name)
    probe = text if "/" in text else f"{text}/x"
    named = Reference.parse(probe, default_tag=None)
    if named.tag is not None or named.digest is not None or named.name != probe:
        raise fields.error(name, "is no prefix of a normal image name")
    return text
