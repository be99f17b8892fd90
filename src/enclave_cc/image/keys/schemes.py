"""
The schemes in which a layer's key may be wrapped, and who can unwrap each.

A scheme reads one item and offers attempts; it decides nothing about their order and outcome, which is
``layer_key``'s. Whatever an attempt meets is the error family, never another exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket
from enclave_cc.formats.ocicrypt.jwe_item import JWE_ANNOTATION, parse_jwe, unwrap_jwe
from enclave_cc.formats.ocicrypt.pkcs7_item import PKCS7_ANNOTATION, parse_envelope, unwrap_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enclave_cc.formats.jose.key_wrapping import PrivateKey
    from enclave_cc.formats.ocicrypt.envelope import Envelope
    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
    from enclave_cc.image.ports import Resources


@dataclass(frozen=True, slots=True)
class Attempt:
    """One key to try on one item; ``name`` says which, for the finding."""

    name: str
    unwrap: Callable[[], PrivateOptions]


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A private key that is loaded when an item asks for it; ``load`` raises the error family."""

    name: str
    load: Callable[[], PrivateKey]


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
        yield Attempt(packet.kid, partial(self._unwrap, packet))

    def _unwrap(self, packet: AnnotationPacket) -> PrivateOptions:
        kek = Secret(self.resources.get(packet.kid))
        try:
            return packet.unwrap(kek, insecure_allow_a256ctr=self.insecure_allow_a256ctr)
        finally:
            kek.wipe()


@dataclass(frozen=True, slots=True)
class JweItems:
    """Items for the holders of private keys, as JWE."""

    keys: Sequence[NamedKey]

    @property
    def annotation(self) -> str:
        """Return ocicrypt's annotation for JWE."""
        return JWE_ANNOTATION

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer every key: an item does not say for whom it is."""
        message = parse_jwe(item)
        for key in self.keys:
            yield Attempt(f"jwe, {key.name}", partial(_open_jwe, message, key))


@dataclass(frozen=True, slots=True)
class Pkcs7Items:
    """Items for the holders of certificates' keys, as PKCS#7 envelopes."""

    keys: Sequence[NamedKey]

    @property
    def annotation(self) -> str:
        """Return ocicrypt's annotation for PKCS#7."""
        return PKCS7_ANNOTATION

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer every key: certificates are not at hand, so the items' names say nothing here."""
        envelope = parse_envelope(item)
        for key in self.keys:
            yield Attempt(f"pkcs7, {key.name}", partial(_open_envelope, envelope, key))


def _open_jwe(message: object, key: NamedKey) -> PrivateOptions:
    return unwrap_jwe(message, key.load())


def _open_envelope(envelope: Envelope, key: NamedKey) -> PrivateOptions:
    return unwrap_envelope(envelope, key.load())
