"""
The life of the process that serves a scratch, forked before there is any key but the scratch's own.

It leaves the mount namespace in which the scratch is used. A process that is killed takes down the
mounts of a namespace that nobody else is left in before it lets go of its descriptors; if it served
a disk that they must be written back to, it would wait for itself for ever.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from enclave_cc.enclave.hardening import ask_to_be_killed_last, end_with_parent, name_process
from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.device.host_file import HostFile
from enclave_cc.enclave.rootfs.device.scratch_store import BLOCK_BYTES, ScratchStore
from enclave_cc.enclave.rootfs.fuse.block_file import BLOCK_FILE, BlockFileOperations
from enclave_cc.enclave.rootfs.fuse.server import FuseServing
from enclave_cc.enclave.rootfs.mounting.system_calls import (
    become_io_flusher,
    leave_mount_namespace,
    lock_memory,
)

if TYPE_CHECKING:
    import socket
    from pathlib import Path

READY: Final = b"ready"
FAILED: Final = b"failed "
REFUSED: Final = b"refused "
SERVE: Final = b"serve"
RETIRE: Final = b"retire"
MAX_MESSAGE_BYTES: Final = 4096
_NAME: Final = "enclave-scratch"
_FIRST_OTHER: Final = 3


class Reporter:
    """Tells the parent of the first block that was refused, and refuses everything from then on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._poisoned = False

    def check(self) -> None:
        """Raise ``DeviceRefusedError`` once a block was refused."""
        if self._poisoned:
            raise DeviceRefusedError

    def poison(self, reason: str) -> None:
        """Say why, the first time."""
        if not self._poisoned:
            self._poisoned = True
            # Without a parent there is nobody to tell, and this process ends too.
            with suppress(OSError):
                self._connection.send(REFUSED + reason.encode()[: MAX_MESSAGE_BYTES // 2])


def live(connection: socket.socket, fuse: int, work: Path, size_bytes: int, parent: int) -> NoReturn:
    """Serve a scratch of this size on the disk of ``work`` until the parent hangs up; never return."""
    status = 1
    try:
        _become(parent, kept={connection.fileno(), fuse})
        store, serving = _prepare(connection, fuse, work, size_bytes)
        connection.send(READY)
        _obey(connection, store, serving)
        status = 0
    except BaseException as error:  # noqa: BLE001 - outermost boundary: the parent hears of every end
        with suppress(OSError):
            connection.send(FAILED + str(error).encode()[: MAX_MESSAGE_BYTES // 2])
    finally:
        os._exit(status)


def _become(parent: int, kept: set[int]) -> None:
    """Leave behind what belongs to the parent: its descriptors, its mounts, its directory."""
    end_with_parent(parent)
    ask_to_be_killed_last()
    name_process(_NAME)
    # An object of the parent's that were collected here would close a number that is ours by then.
    gc.freeze()
    first = _FIRST_OTHER
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    leave_mount_namespace()


def _prepare(
    connection: socket.socket, fuse: int, work: Path, size_bytes: int
) -> tuple[ScratchStore, FuseServing]:
    """Make everything that serving needs, and see to it that serving waits for no memory."""
    lock_memory()
    # Few may (CAP_SYS_RESOURCE). The others must not be in the memory cgroup of who uses the scratch.
    with suppress(PermissionError):
        become_io_flusher()
    blocks = size_bytes // BLOCK_BYTES
    store = ScratchStore(HostFile(work, blocks * BLOCK_BYTES), blocks, Reporter(connection))
    return store, FuseServing(BLOCK_FILE, lambda: BlockFileOperations(store), fuse)


def _obey(connection: socket.socket, store: ScratchStore, serving: FuseServing) -> None:
    while message := connection.recv(MAX_MESSAGE_BYTES):
        if message == SERVE:
            serving.start()
        elif message == RETIRE:
            store.retire()
