"""
How a layer's private options travel: one item per recipient, under an annotation per scheme.

An annotation holds comma-separated items, each in base64; which bytes an item is, its scheme decides.
Items are not bound to the layer they stand on: what binds them is the digest inside the options.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import decode_base64, foreign
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions

# Every wrapped key stands below this name; the rest names the scheme.
KEYS_PREFIX: Final = "org.opencontainers.image.enc.keys."
# An item wraps one small document; a few recipients per layer are usual.
MAX_ITEM_BYTES: Final = 32 << 10
MAX_ITEMS: Final = 16


class Recipient(Protocol):
    """Somebody who shall be able to open the layer."""

    @property
    def annotation(self) -> str:
        """Return the descriptor annotation that this recipient's items stand under."""
        ...

    def wrap(self, options: PrivateOptions) -> bytes:
        """Return one item, before base64."""
        ...


@dataclass(frozen=True, slots=True)
class BrokerKey:
    """A 32-byte key and the name (``kbs:///repository/type/tag``) under which the broker holds it."""

    kek: Secret
    kid: str

    @property
    def annotation(self) -> str:
        """Return the annotation that attestation agents read."""
        return KEYS_ANNOTATION

    def wrap(self, options: PrivateOptions) -> bytes:
        """Write a packet of version 1; raise ``InvalidInputError`` (image-key-invalid)."""
        return AnnotationPacket.wrap(options, kek=self.kek, kid=self.kid).encode()


def wrapped_annotations(options: PrivateOptions, recipients: Sequence[Recipient]) -> dict[str, str]:
    """Wrap for every recipient; items of one scheme keep the recipients' order."""
    items: dict[str, list[str]] = {}
    for recipient in recipients:
        item = base64.b64encode(recipient.wrap(options)).decode("ascii")
        items.setdefault(recipient.annotation, []).append(item)
    return {annotation: ",".join(texts) for annotation, texts in items.items()}


def decode_item(text: str) -> bytes:
    """Read one item of an annotation; raise ``InvalidInputError`` (layer-key-invalid)."""
    with foreign("layer-key-invalid", "a layer's wrapped key is malformed", stage=Stage.DECRYPT):
        if len(text) > 2 * MAX_ITEM_BYTES:
            raise ValueError("item: too long")
        return decode_base64(text, "item")
