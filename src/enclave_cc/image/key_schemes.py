"""
The schemes in which a layer's key may be wrapped, and who can unwrap each.

A scheme reads one item and offers attempts; it decides nothing about their order and outcome, which is
``layer_key``'s. Whatever an attempt meets is the error family, never another exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
    from enclave_cc.image.ports import Resources


@dataclass(frozen=True, slots=True)
class Attempt:
    """One key to try on one item; ``name`` says which, for the finding."""

    name: str
    unwrap: Callable[[], PrivateOptions]


class KeyScheme(Protocol):
    """Unwraps the items under one annotation."""

    @property
    def annotation(self) -> str:
        """Return the annotation that this scheme reads, and no other."""
        ...

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer the keys to try on an item; raise ``InvalidInputError`` (layer-key-invalid)."""
        ...


@dataclass(frozen=True, slots=True)
class BrokerPackets:
    """Packets whose wrapping key is a resource of the broker, asked for anew each time."""

    resources: Resources
    insecure_allow_a256ctr: bool = False

    @property
    def annotation(self) -> str:
        """Return the attestation agents' annotation."""
        return KEYS_ANNOTATION

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer the one key that the packet names."""
        packet = AnnotationPacket.parse(item)
        yield Attempt(packet.kid, lambda: self._unwrap(packet))

    def _unwrap(self, packet: AnnotationPacket) -> PrivateOptions:
        kek = Secret(self.resources.get(packet.kid))
        try:
            return packet.unwrap(kek, insecure_allow_a256ctr=self.insecure_allow_a256ctr)
        finally:
            kek.wipe()
