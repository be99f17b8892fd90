"""Unix sockets without the ``socket`` module, which is slower to load than everything else here."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# What fits in sockaddr_un; longer paths are reached through a descriptor of their directory.
_MAX_PATH_BYTES: Final = 107


def accept(listener: socket) -> socket:
    """Accept one connection; raise ``OSError``."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what `socket.accept` calls
    os.set_inheritable(descriptor, False)
    return socket(AF_UNIX, SOCK_STREAM, 0, descriptor)


def connect(path: str) -> socket:
    """Connect to a Unix socket of any path length, without waiting; raise ``OSError``."""
    peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    directory = -1
    try:
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            parent, _, name = path.rpartition("/")
            directory = os.open(parent, os.O_PATH | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/{name}"
        # A full backlog must not stop the pod: connecting fails at once and is tried again.
        peer.setblocking(False)
        peer.connect(path)
    except BaseException:
        peer.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return peer
