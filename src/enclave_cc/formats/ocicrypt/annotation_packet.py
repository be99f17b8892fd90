"""
The packets in which a layer's private options travel: wrapped under a key that a broker holds.

Version 1 has four members; version 2 adds who the provider is. Both say ``kid``, the broker's
resource that is the wrapping key. A packet is not bound to its layer by the format; what binds is
the digest inside the wrapped options, which the pipeline compares. ``A256CTR`` wraps without
authentication and is refused unless the caller says ``insecure_allow_a256ctr``.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.formats.oci.edge import decode_base64, foreign, read_object
from enclave_cc.formats.ocicrypt.layer_cipher import MAX_OPTIONS_BYTES, PrivateOptions

if TYPE_CHECKING:
    from enclave_cc.core.secret import Secret

KEYS_ANNOTATION: Final = "org.opencontainers.image.enc.keys.provider.attestation-agent"

KEK_BYTES: Final = 32
_GCM_IV_BYTES: Final = 12
_CTR_IV_BYTES: Final = 16
_V2: Final = "0.1.0"
_PROVIDER: Final = "kbs"
_KID_PREFIX: Final = "kbs:///"
# A packet wraps one small document; a few recipients per layer are usual.
MAX_PACKET_BYTES: Final = 16 << 10
MAX_PACKETS: Final = 16

_SUMMARY: Final = "a layer's wrapped key is malformed"


class WrapType(StrEnum):
    """How the private options are encrypted under the wrapping key."""

    A256GCM = "A256GCM"
    A256CTR = "A256CTR"


@dataclass(frozen=True, slots=True)
class AnnotationPacket:
    """One wrapped copy of a layer's private options."""

    kid: str
    wrapped_data: bytes
    iv: bytes
    wrap_type: WrapType = WrapType.A256GCM

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a packet of either version; raise ``InvalidInputError`` (layer-key-invalid) otherwise."""
        with foreign("layer-key-invalid", _SUMMARY, stage=Stage.DECRYPT):
            fields = read_object(data, "packet", max_bytes=MAX_PACKET_BYTES)
            if fields.text("version", default=_V2) != _V2:
                raise fields.error("version", "is not known here")
            if fields.text("provider", default=_PROVIDER) != _PROVIDER:
                raise fields.error("provider", "is not known here")
            kid = fields.text("kid")
            if not kid.startswith(_KID_PREFIX):
                raise fields.error("kid", "is not a key of the broker")
            return cls(
                kid=kid,
                wrapped_data=decode_base64(fields.text("wrapped_data"), "packet.wrapped_data"),
                iv=decode_base64(fields.text("iv"), "packet.iv"),
                wrap_type=WrapType(fields.text("wrap_type")),
            )

    @classmethod
    def wrap(cls, options: PrivateOptions, *, kek: Secret, kid: str) -> Self:
        """Wrap private options under a 32-byte key with a fresh nonce (A256GCM)."""
        if not kid.startswith(_KID_PREFIX) or len(kek) != KEK_BYTES:
            raise InvalidInputError(
                "image-key-invalid",
                "the wrapping key is not a 256-bit key with a kbs:/// name",
                stage=Stage.CONFIG,
                detail=f"{kid[:256]}: {len(kek)} bytes",
            )
        iv = os.urandom(_GCM_IV_BYTES)
        return cls(kid, AESGCM(kek.reveal()).encrypt(iv, options.encode(), None), iv)

    def unwrap(self, kek: Secret, *, insecure_allow_a256ctr: bool = False) -> PrivateOptions:
        """
        Open the packet; raise ``RefusedError`` (layer-key-refused) when the key does not fit.

        ``InvalidInputError`` (layer-encryption-invalid) says that it fitted and held nonsense.
        """
        if len(kek) != KEK_BYTES:
            raise _refused(f"{self.kid}: {len(kek)} bytes instead of {KEK_BYTES}")
        if len(self.wrapped_data) > MAX_OPTIONS_BYTES:
            raise _refused(f"{self.kid}: the wrapped options are too long")
        if self.wrap_type is WrapType.A256GCM:
            return PrivateOptions.parse(self._open_gcm(kek))
        if not insecure_allow_a256ctr:
            raise _refused(f"{self.kid}: A256CTR does not authenticate the key and is not allowed")
        return PrivateOptions.parse(self._open_ctr(kek))

    def encode(self) -> bytes:
        """Write the packet in version 1, which every reader understands."""
        return strict_json.canonical(
            {
                "kid": self.kid,
                "wrapped_data": base64.b64encode(self.wrapped_data).decode("ascii"),
                "iv": base64.b64encode(self.iv).decode("ascii"),
                "wrap_type": str(self.wrap_type),
            }
        )

    def _open_gcm(self, kek: Secret) -> bytes:
        if len(self.iv) != _GCM_IV_BYTES:
            raise _refused(f"{self.kid}: the nonce is {len(self.iv)} bytes long")
        try:
            return AESGCM(kek.reveal()).decrypt(self.iv, self.wrapped_data, None)
        except (InvalidTag, ValueError) as error:
            raise _refused(f"{self.kid}: the key does not open the packet") from error

    def _open_ctr(self, kek: Secret) -> bytes:
        if len(self.iv) != _CTR_IV_BYTES:
            raise _refused(f"{self.kid}: the nonce is {len(self.iv)} bytes long")
        decryptor = Cipher(algorithms.AES(kek.reveal()), modes.CTR(self.iv)).decryptor()
        return decryptor.update(self.wrapped_data)


def parse_packets(annotation: str) -> tuple[AnnotationPacket, ...]:
    """
    Read the comma-separated packets of a layer, in order.

    One that does not parse does not spoil the others; raises ``InvalidInputError``
    (layer-key-invalid) when none does.
    """
    packets = []
    problem: InvalidInputError | None = None
    for item in annotation.split(",", MAX_PACKETS)[:MAX_PACKETS]:
        try:
            packets.append(_parse_item(item))
        except InvalidInputError as error:
            problem = error
    if not packets and problem is not None:
        raise problem
    return tuple(packets)


def encode_packets(packets: tuple[AnnotationPacket, ...]) -> str:
    """Write the annotation."""
    return ",".join(base64.b64encode(packet.encode()).decode("ascii") for packet in packets)


def _parse_item(item: str) -> AnnotationPacket:
    with foreign("layer-key-invalid", _SUMMARY, stage=Stage.DECRYPT):
        if len(item) > 2 * MAX_PACKET_BYTES:
            raise ValueError("packet: too long")
        return AnnotationPacket.parse(decode_base64(item, "packet"))


def _refused(detail: str) -> RefusedError:
    return RefusedError(
        "layer-key-refused", "the key does not open a layer of the image", stage=Stage.DECRYPT, detail=detail
    )
