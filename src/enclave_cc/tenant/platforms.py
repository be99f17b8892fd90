"""Which images of an index a command works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.oci.manifest import Index, parse_manifest_or_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.tenant.places.ports import ImageReader

_MIN_PARTS, _MAX_PARTS = 2, 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """A manifest, or an index of what was chosen, with its bytes."""

    descriptor: Descriptor
    body: bytes
    index: Index | None


def parse_platform(text: str) -> Platform:
    """Read ``os/architecture[/variant]``; raise ``InvalidInputError`` (value-invalid) otherwise."""
    parts = text.split("/")
    if not _MIN_PARTS <= len(parts) <= _MAX_PARTS or not all(parts):
        raise InvalidInputError(
            "platform-invalid", "a platform is malformed", stage=Stage.REQUEST, detail=text[:128]
        )
    return Platform(*parts)


def choose(reader: ImageReader, descriptor: Descriptor, platforms: Sequence[Platform]) -> Chosen:
    """
    Narrow an image down to some platforms; none named means all.

    One platform gives its manifest, several an index of theirs. An image for a single platform is taken
    as it is. Raises ``InvalidInputError`` (image-platform-missing).
    """
    body = reader.document(descriptor.digest)
    document = parse_manifest_or_index(body)
    if not isinstance(document, Index):
        return Chosen(descriptor, body, None)
    if not platforms:
        return Chosen(descriptor, body, document)
    selected = list({entry.digest: entry for entry in map(document.select, platforms)}.values())
    if len(selected) == 1:
        return Chosen(selected[0], reader.document(selected[0].digest), None)
    index = replace(document, manifests=tuple(selected))
    made = index.to_bytes()
    return Chosen(Descriptor(index.media_type, Digest.of(made), len(made)), made, index)
