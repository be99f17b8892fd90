"""The index that stands in for the referrers API (distribution specification, "Referrers Tag Schema")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.manifest import Index


def fallback_tag(digest: Digest) -> str:
    """Name the tag under which the index of a manifest's referrers is found."""
    return f"{digest.algorithm}-{digest.hex}"


def with_referrer(index: Index, descriptor: Descriptor) -> Index:
    """Add a referrer; one with the same digest is replaced."""
    others = [entry for entry in index.manifests if entry.digest != descriptor.digest]
    return replace(index, manifests=(*others, descriptor))
