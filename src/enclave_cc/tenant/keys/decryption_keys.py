"""
What opens an image on its owner's machine, as people write it at a command line.

``FILE``: a private key for JWE and PKCS#7, or 32 bytes, which are tried on every packet because a file does
not know the name under which a broker holds them. ``kbs:///repository/type/tag=FILE``: a broker's key from a
file; a person has no attested session, so brokers themselves are not asked. ``provider:NAME[:PARAMETERS]``:
a key provider. The ring that comes of it is the enclave's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.ocicrypt.annotation_packet import KEK_BYTES, KEYS_ANNOTATION, AnnotationPacket
from enclave_cc.formats.ocicrypt.private_key import needs_password, parse_private_key
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.keys.schemes import Attempt, NamedKey
from enclave_cc.tenant.keyproviders.provider import NamedProvider
from enclave_cc.tenant.keys.recipients import BROKER, broker_key, invalid_recipient, read_key_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions


def open_key_ring(
    texts: Sequence[str],
    *,
    password: Callable[[Path], bytes] | None = None,
    keyprovider_config: Path | None = None,
    insecure_allow_a256ctr: bool = False,
) -> KeyRing:
    """
    Read every key; raise ``InvalidInputError`` for the first that cannot be used.

    Codes: decryption-key-invalid, image-key-invalid, file-unusable, recipient-invalid,
    keyprovider-config-invalid.
    """
    broker: dict[str, Secret] = {}
    unnamed: list[Secret] = []
    private: list[NamedKey] = []
    providers: list[NamedProvider] = []
    for text in texts:
        if text.startswith(BROKER):
            uri, _, file = text.partition("=")
            if not file:
                raise invalid_recipient(f"{uri}: needs its key: {uri}=FILE")
            key = broker_key(ResourceUri.parse(uri), Path(file))
            broker[key.kid] = key.kek
        elif text.startswith("provider:"):
            providers.append(NamedProvider.parse(text.removeprefix("provider:"), keyprovider_config))
        else:
            _take_file(Path(text), password, unnamed, private)
    packets = OwnersPackets(unnamed, insecure_allow_a256ctr=insecure_allow_a256ctr)
    return KeyRing(
        FileResources(broker) if broker else None,
        private_keys=private,
        schemes=[packets, *providers] if unnamed else providers,
        insecure_allow_a256ctr=insecure_allow_a256ctr,
    )


@dataclass(frozen=True, slots=True)
class OwnersPackets:
    """The broker's packets, opened with wrapping keys whose names are not known."""

    keks: Sequence[Secret]
    insecure_allow_a256ctr: bool = False

    @property
    def annotation(self) -> str:
        """Return the annotation of the broker's packets."""
        return KEYS_ANNOTATION

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer every key."""
        packet = AnnotationPacket.parse(item)
        for kek in self.keks:
            yield Attempt(packet.kid, partial(self._unwrap, packet, kek))

    def _unwrap(self, packet: AnnotationPacket, kek: Secret) -> PrivateOptions:
        return packet.unwrap(kek, insecure_allow_a256ctr=self.insecure_allow_a256ctr)


class FileResources:
    """A broker's keys that lie in files."""

    def __init__(self, keys: Mapping[str, Secret]) -> None:
        self._keys = keys

    def get(self, uri: str) -> bytes:
        """Return a key; raise ``RefusedError`` (layer-key-refused) for one that was not given."""
        key = self._keys.get(uri)
        if key is None:
            raise RefusedError(
                "layer-key-refused",
                "the key does not open a layer of the image",
                stage=Stage.DECRYPT,
                detail=f"{uri}: was not given (--key {uri}=FILE)",
            )
        return bytes(key.reveal())


def _take_file(
    path: Path,
    password: Callable[[Path], bytes] | None,
    unnamed: list[Secret],
    private: list[NamedKey],
) -> None:
    """Tell the two kinds of key files apart: no private key is as short as a wrapping key."""
    data = read_key_file(path)
    if len(data) == KEK_BYTES:
        unnamed.append(Secret(data))
    else:
        private.append(_private_key(path, data, password))


def _private_key(path: Path, data: bytes, password: Callable[[Path], bytes] | None) -> NamedKey:
    secret = password(path) if password is not None and needs_password(data) else None
    try:
        key = parse_private_key(data, password=secret)
    except InvalidInputError as error:
        detail = f"{path}: {error.detail}; a wrapping key would have {KEK_BYTES} bytes, not {len(data)}"
        raise InvalidInputError(error.code, error.summary, stage=error.stage, detail=detail) from error
    return NamedKey(str(path), lambda: key)
