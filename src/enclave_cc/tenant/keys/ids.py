"""
Who a wrapped key is for, as far as that can be told without opening it.

The broker's packets name their key. Other schemes are named by what they are, and numbered where there is
nothing to tell two items apart by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, decode_item

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor

_SHORT_CHARS: Final = 12


def key_id(annotation: str, item: str) -> str:
    """Name the key of one item: its own name, or its scheme and the beginning of the item's digest."""
    if annotation == KEYS_ANNOTATION:
        try:
            return AnnotationPacket.parse(decode_item(item)).kid
        except InvalidInputError:
            pass
    scheme = annotation.removeprefix(KEYS_PREFIX)
    return f"{scheme}:{Digest.of(item.encode()).hex[:_SHORT_CHARS]}"


def key_ids(layer: Descriptor) -> tuple[str, ...]:
    """Name the keys of all items on a layer."""
    return tuple(
        key_id(name, item)
        for name, text in layer.annotations.items()
        if name.startswith(KEYS_PREFIX)
        for item in text.split(",")
        if item
    )
