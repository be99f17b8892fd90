"""What the agent hands to an app enclave, once: the key of its file system and how to start it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.secret import Secret
from enclave_cc.formats.local_attestation.port import refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH_BYTES: Final = 4
_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Release:
    """`fdk` opens the sealed root with this manifest; `launch` is the launch configuration's JSON."""

    fdk: Secret
    manifest_sha256: bytes
    launch: bytes

    def pack(self) -> bytearray:
        """Join the parts (as `lp` does) in a buffer that the caller wipes."""
        buffer = bytearray()
        for part in (self.fdk.reveal(), self.manifest_sha256, self.launch):
            buffer += len(part).to_bytes(_LENGTH_BYTES, "big")
            buffer += part
        return buffer

    @classmethod
    def take(cls, buffer: bytearray) -> Release:
        """Read what `pack` wrote and wipe `buffer`; no immutable copy of the key is made."""
        view = memoryview(buffer)
        parts = _split(view)
        if len(parts) != _PARTS:
            raise refused("release: not three parts")
        release = cls(Secret(parts[0]), bytes(parts[1]), bytes(parts[2]))
        view[:] = bytes(len(view))
        return release


def _split(view: memoryview) -> Sequence[memoryview]:
    parts: list[memoryview] = []
    offset = 0
    while offset < len(view) and len(parts) <= _PARTS:
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(view[offset:start], "big")
        if offset > len(view):
            raise refused("release: a part is longer than the message")
        parts.append(view[start:offset])
    return parts
