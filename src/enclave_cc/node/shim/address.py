"""The shim's socket: a name that follows from containerd's own address, and one shim per pod behind it."""

from __future__ import annotations

import posix
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from errno import EADDRINUSE

from enclave_cc.node.shim.hashes import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

# Where containerd 1.6 to 2.x expects the sockets of its shims.
DIRECTORY: Final = "/run/containerd/s"
_BACKLOG: Final = 64
_GROUPS: Final = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")


def group_of(annotations: Mapping[str, str], container_id: str) -> str:
    """Name the containers that share a shim: those of one pod."""
    for name in _GROUPS:
        if annotations.get(name):
            return annotations[name]
    return container_id


def socket_path(containerd: str, namespace: str, group: str) -> str:
    """Return the path for a group, as containerd's own shims compute it."""
    return f"{DIRECTORY}/{sha256(f'{containerd}/{namespace}/{group}'.encode()).hexdigest()}"


def listen(path: str) -> socket | None:
    """Bind and listen; return None when a living shim already does."""
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    _make_directory()
    before = posix.umask(0o177)
    try:
        if not _bind(listener, path):
            if _answers(path):
                listener.close()
                return None
            posix.unlink(path)
            listener.bind(path)
    finally:
        posix.umask(before)
    listener.listen(_BACKLOG)
    return listener


def remove_dead(path: str) -> None:
    """Remove a socket of ours behind which no shim is left; one that is gone already is no error."""
    if not path.startswith(f"{DIRECTORY}/") or "/" in path.removeprefix(f"{DIRECTORY}/") or _answers(path):
        return
    try:
        posix.unlink(path)
    except OSError:
        return


def _make_directory() -> None:
    for path, mode in ((DIRECTORY.rpartition("/")[0], 0o711), (DIRECTORY, 0o700)):
        try:
            posix.mkdir(path, mode)
        except FileExistsError:
            continue


def _bind(listener: socket, path: str) -> bool:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != EADDRINUSE:
            raise
        return False
    return True


def _answers(path: str) -> bool:
    peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        peer.connect(path)
    except OSError:
        return False
    finally:
        peer.close()
    return True
