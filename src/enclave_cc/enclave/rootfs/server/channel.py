"""Messages and one key over the connected socket, which keeps their boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.server.messages import MAX_MESSAGE_BYTES, from_bytes, to_bytes
from enclave_cc.formats.sealed.manifest import KEY_BYTES

if TYPE_CHECKING:
    import socket

    from enclave_cc.enclave.rootfs.server.messages import Message


class Channel:
    """One side."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """Return the descriptor that becomes readable with a message, or with the other side's end."""
        return self._connection.fileno()

    def send(self, message: Message) -> None:
        """Send a message, from any thread; raise OSError if nobody is there."""
        self._connection.send(to_bytes(message))

    def send_key(self, key: Secret) -> None:
        """Send a key straight from its buffer; raise OSError."""
        self._connection.send(key.reveal())

    def receive(self) -> Message | None:
        """Wait for a message; None at the end. Raise ``ValueError`` for nonsense."""
        try:
            data = self._connection.recv(MAX_MESSAGE_BYTES + 1)
        except ConnectionError:
            return None
        return from_bytes(data) if data else None

    def receive_key(self) -> Secret:
        """Wait for the key that was announced; raise ``ValueError`` for anything of another length."""
        buffer = bytearray(KEY_BYTES + 1)
        received = self._connection.recv_into(buffer)
        key = Secret.absorb(memoryview(buffer)[:KEY_BYTES])
        if received != KEY_BYTES:
            key.wipe()
            raise ValueError("what was sent is no key")
        return key
