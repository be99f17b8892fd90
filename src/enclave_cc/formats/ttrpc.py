"""
ttrpc frames and envelopes, sans IO (source: ttrpc PROTOCOL.md).

A frame is a ten-byte big-endian header (length, stream id, type, flags) and its data. A frame
over four MiB is drained and reported, so that the connection stays usable. The shim loads
this module on its start path, so it imports only the table codec and ``struct``.
"""

from __future__ import annotations

from struct import Struct

from enclave_cc.formats.protobuf import ANY, BYTES, INT, STRING, Schema, repeated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HEADER: Final = Struct(">IIBB")
MAX_DATA_BYTES: Final = 4 << 20

TYPE_REQUEST: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_DATA: Final = 3
FLAG_REMOTE_CLOSED: Final = 1
FLAG_REMOTE_OPEN: Final = 2
FLAG_NO_DATA: Final = 4

# google.rpc.Code, the ones in use.
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

KEY_VALUE: Final = Schema("ttrpc.KeyValue", {1: ("key", STRING), 2: ("value", STRING)})
REQUEST: Final = Schema(
    "ttrpc.Request",
    {
        1: ("service", STRING),
        2: ("method", STRING),
        3: ("payload", BYTES),
        4: ("timeout_nano", INT),
        5: ("metadata", repeated(KEY_VALUE)),
    },
)
STATUS: Final = Schema(
    "google.rpc.Status", {1: ("code", INT), 2: ("message", STRING), 3: ("details", repeated(ANY))}
)
RESPONSE: Final = Schema("ttrpc.Response", {1: ("status", STATUS), 2: ("payload", BYTES)})

# How our own errors travel inside Status.details, next to the text for people.
ERROR_INFO_URL: Final = "enclavecc.v1.ErrorInfo"
ERROR_INFO: Final = Schema(
    "enclavecc.v1.ErrorInfo",
    {
        1: ("code", STRING),
        2: ("stage", STRING),
        3: ("request_id", STRING),
        4: ("summary", STRING),
        5: ("remedy", STRING),
    },
)


class Frame:
    """One frame; ``oversize`` frames carry no data, it was drained."""

    __slots__ = ("data", "flags", "oversize", "stream_id", "type")

    def __init__(
        self, stream_id: int, type_: int, flags: int, data: bytes, *, oversize: bool = False
    ) -> None:
        self.stream_id = stream_id
        self.type = type_
        self.flags = flags
        self.data = data
        self.oversize = oversize


def pack_frame(stream_id: int, type_: int, data: bytes, flags: int = 0) -> bytes:
    """Write one frame."""
    return HEADER.pack(len(data), stream_id, type_, flags) + data


class FrameReader:
    """Cuts a byte stream into frames; holds at most one frame's bytes."""

    __slots__ = ("_buffer", "_draining")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._draining = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take what arrived, return the frames that are complete."""
        frames: list[Frame] = []
        self._buffer += data
        while self._next(frames):
            pass
        return frames

    def _next(self, frames: list[Frame]) -> bool:
        buffer = self._buffer
        if self._draining:
            dropped = min(self._draining, len(buffer))
            del buffer[:dropped]
            self._draining -= dropped
            if self._draining:
                return False
        if len(buffer) < HEADER.size:
            return False
        length, stream_id, type_, flags = HEADER.unpack_from(buffer)
        if length > MAX_DATA_BYTES:
            del buffer[: HEADER.size]
            self._draining = length
            frames.append(Frame(stream_id, type_, flags, b"", oversize=True))
            return True
        end = HEADER.size + length
        if len(buffer) < end:
            return False
        frames.append(Frame(stream_id, type_, flags, bytes(buffer[HEADER.size : end])))
        del buffer[:end]
        return True
