"""
Where the key of a layer that is being encrypted comes from: fresh, or derived so that it comes again.

A derived key makes the same bytes of the same layer, on every run and machine, so that registries keep
one copy; the price is that whoever sees two such layers sees that they are equal. It is derived with
HKDF-SHA-256 from the wrapping key and the plain layer's digest. Under such a key lies exactly one stream,
the one with that digest; so a layer has to be compared with its digest before its first byte is encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import AnnotationPacket
from enclave_cc.formats.ocicrypt.layer_cipher import KEY_BYTES, NONCE_BYTES, PrivateOptions
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.ocicrypt.wrapping import Recipient

_LAYER_CONTEXT: Final = b"enclave-cc deterministic layer, version 1\0"
_WRAP_CONTEXT: Final = b"enclave-cc deterministic packet, version 1\0"
_GCM_NONCE_BYTES: Final = 12


class LayerKeySource(Protocol):
    """Gives each plain layer its key and nonce."""

    @property
    def needs_checked_input(self) -> bool:
        """Tell whether a layer's digest has to be compared before it is encrypted."""
        ...

    def options(self, digest: Digest) -> PrivateOptions:
        """Return key and nonce for the layer with this digest."""
        ...


class FreshKeys:
    """A random key for every layer and run."""

    needs_checked_input = False

    def options(self, digest: Digest) -> PrivateOptions:
        """Draw key and nonce."""
        return PrivateOptions.fresh(digest)


class DerivedKeys:
    """The same key for the same layer."""

    needs_checked_input = True

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def options(self, digest: Digest) -> PrivateOptions:
        """Derive key and nonce."""
        derived = _derive(self._secret, _LAYER_CONTEXT + str(digest).encode(), KEY_BYTES + NONCE_BYTES)
        return PrivateOptions(Secret(derived[:KEY_BYTES]), derived[KEY_BYTES:], digest)


@dataclass(frozen=True, slots=True)
class DeterministicBrokerKey:
    """A broker's key that wraps the same options into the same packet."""

    key: BrokerKey

    @property
    def annotation(self) -> str:
        """Return the annotation of the broker's packets."""
        return self.key.annotation

    def wrap(self, options: PrivateOptions) -> bytes:
        """Wrap with a nonce that depends on all that is wrapped: two documents never share one."""
        document = options.encode()
        nonce = _derive(self.key.kek, _WRAP_CONTEXT + document, _GCM_NONCE_BYTES)
        wrapped = AESGCM(self.key.kek.reveal()).encrypt(nonce, document, None)
        return AnnotationPacket(self.key.kid, wrapped, nonce).encode()


def deterministic(recipients: Sequence[Recipient]) -> tuple[LayerKeySource, tuple[Recipient, ...]]:
    """
    Return the keys and the recipients of a deterministic encryption.

    The first broker key is what layer keys are derived from; other kinds of recipients wrap as they do,
    which changes the manifest and not the layers. Raises ``InvalidInputError`` (recipient-missing).
    """
    secrets = [recipient.kek for recipient in recipients if isinstance(recipient, BrokerKey)]
    if not secrets:
        raise InvalidInputError(
            "recipient-missing",
            "deterministic encryption needs a wrapping key of the broker",
            stage=Stage.CONFIG,
        )
    steady = (
        DeterministicBrokerKey(recipient) if isinstance(recipient, BrokerKey) else recipient
        for recipient in recipients
    )
    return DerivedKeys(secrets[0]), tuple(steady)


def _derive(secret: Secret, info: bytes, size_bytes: int) -> bytes:
    # The secret is a uniformly random key already, so no salt is needed to extract from it (RFC 5869, 3.1).
    return HKDF(hashes.SHA256(), size_bytes, salt=None, info=info).derive(secret.reveal())
