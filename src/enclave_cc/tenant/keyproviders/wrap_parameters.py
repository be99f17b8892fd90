"""
What a caller may say about the key to wrap with, in coco_keyprovider's words: ``name=value::name=value``.

``keyid`` names the key. ``keypath`` is understood so that commands people have need no change; it opens no
file. ``algorithm`` may be ``A256GCM``. ``sample`` asks for a key that everybody knows and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.tenant.keyproviders.failures import refused

if TYPE_CHECKING:
    from enclave_cc.formats.ocicrypt.keyprovider import Parameters

# The provider's name in annotations and in ocicrypt's configuration.
NAME: Final = "attestation-agent"
_NAMES: Final = frozenset({"keyid", "keypath", "algorithm", "sample"})
_NO_PARAMETERS: Final = "Enabled"
_MAX_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class WrapParameters:
    """Which key, as far as the caller says."""

    key_id: ResourceUri | None = None
    key_path: str = ""

    @classmethod
    def parse(cls, parameters: Parameters) -> Self:
        """Read the provider's parameters; raise ``RefusedError`` or ``InvalidInputError``."""
        texts = parameters.get(NAME, ())
        if len(texts) != 1:
            raise refused(f"there are {len(texts)} lists of parameters for {NAME} instead of one")
        members = _members(texts[0])
        if members.get("sample", "false") != "false":
            raise refused("sample: that key is published, and hides nothing")
        if members.get("algorithm", "A256GCM") != "A256GCM":
            raise refused("algorithm: only A256GCM authenticates what it wraps")
        key_id = members.get("keyid")
        return cls(None if key_id is None else _key_id(key_id), members.get("keypath", ""))


def _members(text: bytes) -> dict[str, str]:
    if len(text) > _MAX_CHARS:
        raise refused("the parameters are too long")
    try:
        words = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused("the parameters are not UTF-8") from error
    if words == _NO_PARAMETERS:
        return {}
    members: dict[str, str] = {}
    for word in words.split("::"):
        name, equals, value = word.partition("=")
        if not equals or name not in _NAMES or name in members:
            raise refused(f"{name[:64]!r}: is unknown, has no value or stands twice")
        members[name] = value
    return members


def _key_id(text: str) -> ResourceUri:
    """Read ``kbs:///a/b/c`` or ``/a/b/c``; names with a broker's address in them are not taken."""
    if text.startswith("/"):
        return ResourceUri.parse_path(text.removeprefix("/"))
    return ResourceUri.parse(text)
