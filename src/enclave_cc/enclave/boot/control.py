"""
The line to the shim: one order in, one answer out, then events. It is a leash too: its end means stop.

The shim is the host. Its order names paths and sockets and nothing that must be kept secret; what of it
matters for security is checked by local attestation.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

# A dozen paths of at most 4096 bytes each.
MAX_LINE_BYTES: Final = 1 << 16
_READ_BYTES: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class BootOrder:
    """What to start, and where things are on the host."""

    request_id: str
    pod_uid: str
    container_id: str
    agent_socket: str
    platform_socket: str
    sealed_image: Path
    initdata: Path | None
    bundle: Path
    rootfs: Path
    work: Path
    runc: str
    runc_root: str
    runc_log: str
    systemd_cgroup: bool
    console_socket: str
    pid_file: Path

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read the first line; raise ``InvalidInputError`` (``boot-order-invalid``)."""
        try:
            fields = Fields(strict_json.loads(line, max_bytes=MAX_LINE_BYTES), "order")
            return cls(
                request_id=fields.text("request_id"),
                pod_uid=fields.text("pod_uid"),
                container_id=fields.text("container_id"),
                agent_socket=fields.text("agent_socket"),
                platform_socket=fields.text("platform_socket"),
                sealed_image=_path(fields, "sealed_image"),
                initdata=_path(fields, "initdata") if fields.text("initdata", default="") else None,
                bundle=_path(fields, "bundle"),
                rootfs=_path(fields, "rootfs"),
                work=_path(fields, "work"),
                runc=fields.text("runc"),
                runc_root=fields.text("runc_root"),
                runc_log=fields.text("runc_log"),
                systemd_cgroup=fields.boolean("systemd_cgroup", default=False),
                console_socket=fields.text("console_socket", default=""),
                pid_file=_path(fields, "pid_file"),
            )
        except (FieldError, strict_json.InvalidJsonError) as error:
            raise InvalidInputError(
                "boot-order-invalid", "the shim's order is malformed", stage=Stage.REQUEST, detail=str(error)
            ) from error


class Control:
    """The connected socket; ``fileno`` is for waiting on it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the shim says something or goes away."""
        return self._connection.fileno()

    def read_order(self) -> BootOrder | None:
        """Block until the order is here; None when the shim hung up before it gave one."""
        line = self._read_line()
        return BootOrder.parse(line) if line else None

    def is_told_to_stop(self) -> bool:
        """Read what is there and wait for no more; ``stop``, nonsense, an error and the end mean stop."""
        try:
            ended = not self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            ended = False
        except (OSError, InvalidInputError):
            return True
        return ended or any(map(_means_stop, self._lines()))

    def started(self, pid: int) -> None:
        """Answer the order: the container was created."""
        self._send({"pid": pid})

    def failed(self, error: EnclaveCcError) -> None:
        """Answer the order: it was not, in the words that the host may read."""
        members = {
            "code": error.code,
            "stage": str(error.stage),
            "summary": error.summary,
            "remedy": error.remedy,
        }
        self._send({"error": members})

    def poisoned(self, code: str) -> None:
        """Tell that nobody can rely on the root file system any more, and why."""
        self._send({"event": "poisoned", "code": code})

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._connection.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except OSError:
            # The shim is gone, which the next read shows; there is nobody to tell.
            return

    def _read_line(self) -> bytes:
        """Return the next line, empty at the end; raise ``InvalidInputError`` for one that is too long."""
        while (line := next(self._lines(), None)) is None:
            if not self._receive():
                return b""
        return line

    def _lines(self) -> Iterator[bytes]:
        """Take the whole lines that are here."""
        while b"\n" in self._received:
            line, _, rest = bytes(self._received).partition(b"\n")
            self._received = bytearray(rest)
            yield line

    def _receive(self, flags: int = 0) -> bool:
        """Add to what was received; tell whether there may be more."""
        data = self._connection.recv(_READ_BYTES, flags)
        self._received += data
        if len(self._received) > MAX_LINE_BYTES and b"\n" not in self._received:
            raise InvalidInputError("boot-order-invalid", "the shim's order is too long", stage=Stage.REQUEST)
        return bool(data)


def _means_stop(line: bytes) -> bool:
    try:
        message = strict_json.loads(line, max_bytes=MAX_LINE_BYTES)
    except strict_json.InvalidJsonError:
        return True
    return message is None or (isinstance(message, dict) and message.get("stop") is True)


def _path(fields: Fields, name: str) -> Path:
    path = Path(fields.text(name))
    if not path.is_absolute() or "\0" in str(path):
        raise fields.error(name, "is not an absolute path")
    return path
