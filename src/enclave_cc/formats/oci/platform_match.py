"""
Whether an image made for one platform runs on another, by containerd's rules of names and variants.

The names of architectures have synonyms, and some variants are the unnamed default. A processor runs what
was made for earlier variants of its architecture. Unlike containerd nothing else is tried: no 386 on
amd64, no 32-bit ARM on arm64, as the configuration has to name the same architecture.
"""

from __future__ import annotations

import re
from typing import Final

from enclave_cc.formats.oci.descriptor import Platform

_SYNONYMS: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_DEFAULT_VARIANTS: Final = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_VARIANT: Final = re.compile(r"v?([0-9]{1,2})")


def normalized(platform: Platform) -> Platform:
    """Return the same platform with the usual names; a default variant has none, but ARM's always has one."""
    architecture = platform.architecture.lower()
    architecture, variant = _SYNONYMS.get(architecture, (architecture, ""))
    variant = variant or platform.variant.lower()
    number = _VARIANT.fullmatch(variant)
    if number is not None:
        variant = f"v{int(number[1])}"
    if architecture == "arm":
        variant = variant or _DEFAULT_VARIANTS[architecture]
    elif variant == _DEFAULT_VARIANTS.get(architecture):
        variant = ""
    return Platform(platform.os.lower(), architecture, variant)


def without_variant(platform: Platform) -> Platform:
    """Return operating system and architecture only, by their usual names."""
    known = normalized(platform)
    return Platform(known.os, known.architecture)


def distance(wanted: Platform, offered: Platform) -> int | None:
    """Return 0 for the same platform, more for earlier variants of it, None for what does not run there."""
    wanted, offered = normalized(wanted), normalized(offered)
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return 0
    default = _DEFAULT_VARIANTS.get(wanted.architecture, "")
    newer = _VARIANT.fullmatch(wanted.variant or default)
    older = _VARIANT.fullmatch(offered.variant or default)
    if newer is None or older is None or int(newer[1]) <= int(older[1]):
        return None
    return int(newer[1]) - int(older[1])
