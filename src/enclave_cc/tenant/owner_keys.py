"""
The keys that an owner has at hand, as a ring that opens layers.

A file of 32 bytes is a wrapping key as the broker holds it; it is tried on every packet, whatever key the
packet names, because a file does not know its name. Anything else is a private key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import KEK_BYTES, KEYS_ANNOTATION, AnnotationPacket
from enclave_cc.formats.ocicrypt.private_key import parse_private_key
from enclave_cc.image.key_schemes import Attempt, NamedKey
from enclave_cc.image.layer_key import KeyRing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enclave_cc.formats.jose.key_wrapping import PrivateKey


@dataclass(frozen=True, slots=True)
class OwnersPackets:
    """The broker's packets, opened with wrapping keys that lie in files."""

    keks: Sequence[Secret]

    @property
    def annotation(self) -> str:
        """Return the annotation of the broker's packets."""
        return KEYS_ANNOTATION

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer every key."""
        packet = AnnotationPacket.parse(item)
        for kek in self.keks:
            yield Attempt(packet.kid, partial(packet.unwrap, kek))


def ring_of(files: Mapping[str, bytes]) -> KeyRing:
    """Make a ring of key files, by name; raise ``InvalidInputError`` (decryption-key-invalid)."""
    keks = [Secret(data) for data in files.values() if len(data) == KEK_BYTES]
    private = [
        NamedKey(name, partial(_same, parse_private_key(data)))
        for name, data in files.items()
        if len(data) != KEK_BYTES
    ]
    return KeyRing(private_keys=private, schemes=[OwnersPackets(keks)] if keks else [])


def _same(key: PrivateKey) -> PrivateKey:
    return key
