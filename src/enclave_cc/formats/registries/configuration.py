"""
``registries.conf``: mirrors, other locations, blocks and short names, as container tools read them.

It says where an image is fetched from and never what it is: policy and signatures keep to the name
that was asked for. A prefix covers a name from its beginning and in whole components, so that no
registry can stand in for another because its repositories are called like it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.oci.reference import DEFAULT_REGISTRY, Reference
from enclave_cc.formats.owner import bounded_toml
from enclave_cc.formats.registries.names import is_short, require_location, require_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RULES: Final = 256
MAX_MIRRORS: Final = 16
_WILDCARD: Final = "*."


class MirrorUse(StrEnum):
    """Which names a mirror is asked for."""

    ALL = "all"
    DIGEST_ONLY = "digest-only"
    TAG_ONLY = "tag-only"

    def covers(self, reference: Reference) -> bool:
        """Tell whether a mirror of this use may be asked for an image."""
        by_digest = reference.digest is not None
        return self is MirrorUse.ALL or by_digest == (self is MirrorUse.DIGEST_ONLY)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What to ask for in place of an image's name, and whether the configuration means plain HTTP."""

    reference: Reference
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Mirror:
    """One ``[[registry.mirror]]``."""

    location: str
    insecure: bool
    use: MirrorUse

    @classmethod
    def parse(cls, fields: Fields, *, default: MirrorUse | None, strict: bool) -> Self:
        """Read the table; ``default`` is what the registry says about all its mirrors."""
        if strict:
            fields.only("location", "insecure", "pull-from-mirror")
        location = require_location(fields, "location", fields.text("location"))
        use = default or MirrorUse.ALL
        if fields.has("pull-from-mirror"):
            if default is not None:
                raise fields.error("pull-from-mirror", "contradicts mirror-by-digest-only")
            use = _use(fields)
        return cls(location, fields.boolean("insecure", default=False), use)


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """One ``[[registry]]``."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    @classmethod
    def parse(cls, fields: Fields, *, strict: bool) -> Self:
        """Read the table; raise ``FieldError``."""
        if strict:
            fields.only("prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only")
        location = fields.text("location", default="")
        prefix = fields.text("prefix", default="") or location
        require_prefix(fields, prefix)
        if location:
            require_location(fields, "location", location)
        insecure = fields.boolean("insecure", default=False)
        if insecure and not location and prefix.startswith(_WILDCARD):
            raise fields.error("insecure", "needs a location: plain HTTP is allowed by name only")
        by_digest = fields.boolean("mirror-by-digest-only", default=False)
        default = MirrorUse.DIGEST_ONLY if by_digest else None
        tables = fields.array("mirror")
        if len(tables) > MAX_MIRRORS:
            raise fields.error("mirror", f"has more than {MAX_MIRRORS} entries")
        mirrors = tuple(
            Mirror.parse(Fields(table, "mirror"), default=default, strict=strict) for table in tables
        )
        return cls(prefix, location, insecure, fields.boolean("blocked", default=False), mirrors)

    def matched(self, reference: Reference) -> int:
        """Return how much of ``str(reference)`` the prefix covers, 0 for nothing."""
        if self.prefix.startswith(_WILDCARD):
            host = reference.registry.rpartition(":")[0] or reference.registry
            return len(reference.registry) if host.endswith(self.prefix[1:]) else 0
        text = str(reference)
        # After a registry alone, only a repository begins a new component: a colon would begin a port.
        ends = ("/", ":", "@") if "/" in self.prefix else ("/",)
        covers = text == self.prefix or text.startswith(tuple(f"{self.prefix}{end}" for end in ends))
        return len(self.prefix) if covers else 0

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """List what to ask, mirrors first; raise ``InvalidInputError`` for a name that does not fit."""
        rest = str(reference)[self.matched(reference) :]
        mirrors = [
            Endpoint(Reference.parse(f"{mirror.location}{rest}"), mirror.insecure)
            for mirror in self.mirrors
            if mirror.use.covers(reference)
        ]
        own = Reference.parse(f"{self.location}{rest}") if self.location else reference
        return tuple(dict.fromkeys([*mirrors, Endpoint(own, self.insecure)]))

    def insecure_hosts(self) -> set[str]:
        """Name the hosts of locations that are marked insecure."""
        locations = {mirror.location for mirror in self.mirrors if mirror.insecure}
        if self.insecure:
            locations.add(self.location or self.prefix)
        return {location.partition("/")[0].lower() for location in locations}


@dataclass(frozen=True, slots=True)
class Registries:
    """A whole configuration; the default sends every name to its own registry."""

    rules: tuple[RegistryRule, ...] = ()
    unqualified_search: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, *, strict: bool) -> Self:
        """
        Read the TOML text; raise ``InvalidInputError`` (registries-config-invalid).

        ``strict`` refuses keys that mean nothing here; a node's file may hold keys for other tools.
        """
        with foreign(
            "registries-config-invalid", "the registry configuration is malformed", stage=Stage.CONFIG
        ):
            fields = Fields(bounded_toml.loads(data), "registries.conf")
            if strict:
                fields.only("unqualified-search-registries", "registry", "aliases", "short-name-mode")
            return cls.read(fields, strict=strict)

    @classmethod
    def read(cls, fields: Fields, *, strict: bool) -> Self:
        """Read the parsed text; raise ``ValueError``."""
        tables = fields.array("registry")
        if len(tables) > MAX_RULES:
            raise fields.error("registry", f"has more than {MAX_RULES} entries")
        rules = tuple(RegistryRule.parse(Fields(table, "registry"), strict=strict) for table in tables)
        if len({rule.prefix for rule in rules}) != len(rules):
            raise FieldError("registry: two entries have the same prefix")
        search = fields.texts("unqualified-search-registries")
        for registry in search:
            require_location(fields, "unqualified-search-registries", registry)
        return cls(rules, search, fields.text_map("aliases"))

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """
        List what to ask for an image, best first and never nothing.

        Raises ``RefusedError`` (registry-blocked), and ``InvalidInputError`` where a location and the
        rest of the name make no name together.
        """
        covering = [rule for rule in self.rules if rule.matched(reference)]
        if not covering:
            return (Endpoint(reference),)
        # The longest prefix wins, and any name written out beats a wildcard.
        rule = max(covering, key=lambda rule: (not rule.prefix.startswith(_WILDCARD), len(rule.prefix)))
        if rule.blocked:
            raise RefusedError(
                "registry-blocked",
                "the registry configuration blocks the image's registry",
                stage=Stage.POLICY,
                detail=f"{reference}: prefix {rule.prefix}",
            )
        return rule.endpoints(reference)

    def insecure_hosts(self) -> frozenset[str]:
        """Name all hosts that the configuration marks insecure."""
        return frozenset().union(*(rule.insecure_hosts() for rule in self.rules))

    def candidates(self, text: str) -> tuple[Reference, ...]:
        """
        Return what a name that somebody typed may mean, in order; a name with a registry means itself.

        Raises ``InvalidInputError`` (reference-invalid).
        """
        if not is_short(text):
            return (Reference.parse(text),)
        name, mark, rest = _cut(text)
        if name in self.aliases:
            return (Reference.parse(f"{self.aliases[name]}{mark}{rest}"),)
        registries = self.unqualified_search or (DEFAULT_REGISTRY,)
        return tuple(dict.fromkeys(Reference.parse(f"{registry}/{text}") for registry in registries))


def _use(fields: Fields) -> MirrorUse:
    try:
        return MirrorUse(fields.text("pull-from-mirror"))
    except ValueError as error:
        raise fields.error("pull-from-mirror", f"is none of {', '.join(MirrorUse)}") from error


def _cut(text: str) -> tuple[str, str, str]:
    """Cut a short name before its tag or digest."""
    at = min((text.index(mark) for mark in ":@" if mark in text), default=len(text))
    return text[:at], text[at : at + 1], text[at + 1 :]
