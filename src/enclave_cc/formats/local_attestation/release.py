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
        parts = (self.fdk.reveal(), memoryview(self.manifest_sha256), memoryview(self.launch))
        # Its full size at once: a buffer that grows leaves copies behind.
        buffer = bytearray(sum(_LENGTH_BYTES + len(part) for part in parts))
        offset = 0
        for part in parts:
            start = offset + _LENGTH_BYTES
            buffer[offset:start] = len(part).to_bytes(_LENGTH_BYTES, "big")
            offset = start + len(part)
            buffer[start:offset] = part
        return buffer

    @classmethod
    def take(cls, buffer: bytearray) -> Release:
        """Read what `pack` wrote and wipe `buffer`; no immutable copy of the key is made."""
        view = memoryview(buffer)
        try:
            parts = _split(view)
            if len(parts) != _PARTS:
                raise refused("release: not three parts")
            return cls(Secret(parts[0]), bytes(parts[1]), bytes(parts[2]))
        finally:
            view[:] = bytes(len(view))


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
