"""The process that serves a scratch, seen from the one that mounts it."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.enclave.rootfs.device.scratch_store import EXPECTED
from enclave_cc.enclave.rootfs.fuse.block_file import BLOCK_FILE
from enclave_cc.enclave.rootfs.fuse.server import mount_fuse
from enclave_cc.enclave.rootfs.mounting.system_calls import abort_fuse, unmount
from enclave_cc.enclave.rootfs.mounting.writable import scratch_server
from enclave_cc.enclave.rootfs.mounting.writable.ext4 import scratch_unavailable
from enclave_cc.enclave.rootfs.mounting.writable.scratch_server import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Protocol

    class Poisonable(Protocol):
        """The root file system as a whole, of which the scratch is a part."""

        def poison(self, reason: str, *, expected: str) -> None:
            """Return nothing from now on, and tell the owner, the first time."""


# Making an unnamed file takes no time, unless the disk is in trouble.
_READY_S: Final = 30.0
_END_S: Final = 2.0


class ScratchProcess:
    """Forked by ``start()``, mounted once by ``mount()``, ended by ``close()``."""

    def __init__(self, pid: int, connection: socket.socket, fuse: int) -> None:
        self.pid = pid
        self._connection = connection
        self._fuse = fuse
        self._pidfd = os.pidfd_open(pid)
        self._fuse_number = 0
        self._closing = False
        self._listener: threading.Thread | None = None

    @classmethod
    def start(cls, work: Path, size_bytes: int) -> Self:
        """Fork it; the caller has no other threads, and no key yet. Raise OSError."""
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            scratch_server.live(theirs, fuse, work, size_bytes, parent)
        theirs.close()
        return cls(pid, ours, fuse)

    def mount(self, image: Path, rootfs: Poisonable) -> None:
        """
        Mount the scratch onto an existing file, which can be read and written from then on.

        A block that is refused, or the end of the process, poisons ``rootfs``. Raise OSError, or
        ``UnavailableError`` (``scratch-unavailable``) if the process could not make a scratch.
        """
        self._await_ready()
        mount_fuse(BLOCK_FILE, self._fuse, image)
        # The last descriptor must be the server's: when it ends, nobody waits for answers.
        self._close_fuse()
        try:
            self._connection.send(scratch_server.SERVE)
            # The number under which the kernel lists this connection.
            self._fuse_number = os.minor(image.stat().st_dev)
        except OSError:
            unmount(image)
            raise
        self._listener = threading.Thread(target=self._listen, args=(rootfs,), name="scratch", daemon=True)
        self._listener.start()

    def retire(self) -> None:
        """Let it store nothing any more."""
        self._closing = True
        self._send(scratch_server.RETIRE)

    def unmount(self, image: Path) -> None:
        """Undo ``mount()``, even if the file is still in use."""
        self._closing = True
        if not unmount(image):
            abort_fuse(self._fuse_number, image.with_name(f"{image.name}.control"))

    def close(self) -> None:
        """End it."""
        self._closing = True
        self._close_fuse()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        if not self._has_ended():
            os.kill(self.pid, signal.SIGKILL)
        if self._has_ended():
            os.waitpid(self.pid, 0)
        if self._listener is not None:
            self._listener.join(_END_S)
        self._connection.close()
        os.close(self._pidfd)

    def _await_ready(self) -> None:
        self._connection.settimeout(_READY_S)
        message = self._connection.recv(MAX_MESSAGE_BYTES)
        self._connection.settimeout(None)
        if message != scratch_server.READY:
            detail = message.removeprefix(scratch_server.FAILED).decode("utf-8", "replace")
            raise scratch_unavailable(detail or "the process that serves it ended")

    def _listen(self, rootfs: Poisonable) -> None:
        """Wait for bad news; the end is bad news, too."""
        try:
            message = self._connection.recv(MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        if message:
            reason = message.removeprefix(scratch_server.REFUSED).removeprefix(scratch_server.FAILED)
            rootfs.poison(f"scratch: {reason.decode('utf-8', 'replace')}", expected=EXPECTED)
        elif not self._closing:
            rootfs.poison("scratch: the process that serves it ended", expected=EXPECTED)

    def _send(self, message: bytes) -> None:
        # It may have ended, which the listener notices.
        with suppress(OSError):
            self._connection.send(message)

    def _close_fuse(self) -> None:
        if self._fuse >= 0:
            os.close(self._fuse)
            self._fuse = -1

    def _has_ended(self) -> bool:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(_END_S * 1000))
