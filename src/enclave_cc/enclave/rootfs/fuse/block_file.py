"""
Serve the scratch as one file that can be read and written, for a loop device to lie upon.

Nothing is kept back: a write is answered when the host's disk has taken it. Nothing outlives us either,
so to "flush" we say that there is no such thing, and the kernel does not ask again.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.device.scratch_store import BLOCK_BYTES, MAX_TRANSFER_BYTES, BlocksLostError
from enclave_cc.enclave.rootfs.fuse.protocol import (
    ATTR_HEADER,
    FALLOCATE_BODY,
    FOREVER_S,
    READ_BODY,
    ROOT_NODE,
    STATFS,
    WRITE_BODY,
    WRITE_REPLY,
    Attributes,
    Feature,
    FuseError,
    Opcode,
)
from enclave_cc.enclave.rootfs.fuse.server import FuseKind
from enclave_cc.enclave.rootfs.mounting.system_calls import MountFlag

if TYPE_CHECKING:
    from enclave_cc.enclave.rootfs.device.scratch_store import ScratchStore

BLOCK_FILE: Final = FuseKind(
    "sealed-scratch",
    stat.S_IFREG,
    Feature.ASYNC_DIO,
    options="",
    flags=MountFlag.NO_EXEC,
    writable=True,
    max_write_bytes=MAX_TRANSFER_BYTES,
)
_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_ZERO_RANGE: Final = 16
_FORGETTING: Final = frozenset({_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE, _ZERO_RANGE | _KEEP_SIZE})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BlockFileOperations:
    """Answers for one thread."""

    def __init__(self, store: ScratchStore) -> None:
        self._store = store
        self._session = store.session()
        attributes = Attributes(ROOT_NODE, stat.S_IFREG | 0o600, store.size)
        self._attributes = ATTR_HEADER.pack(FOREVER_S, 0) + attributes.pack()

    def answer(self, opcode: int, _node: int, body: memoryview, out: memoryview) -> int:
        """Write the answer to a request; see ``Operations``."""
        try:
            return self._answer(opcode, body, out)
        except BlocksLostError as error:
            raise FuseError(errno.EIO) from error
        except ValueError as error:
            raise FuseError(errno.EINVAL) from error
        except OSError as error:
            raise FuseError(errno.ENOSPC if error.errno in _FULL else errno.EIO) from error

    def _answer(self, opcode: int, body: memoryview, out: memoryview) -> int:
        match opcode:
            case Opcode.READ:
                offset, size = READ_BODY.unpack_from(body)
                return self._session.read_into(offset, out[:size])
            case Opcode.WRITE:
                return self._write(body, out)
            case Opcode.FALLOCATE:
                return self._forget(*FALLOCATE_BODY.unpack_from(body))
            case Opcode.GETATTR:
                return _copy(self._attributes, out)
            case Opcode.STATFS:
                # The loop device learns from this how finely it may forget.
                blocks = self._store.size // BLOCK_BYTES
                return _copy(STATFS.pack(blocks, 0, 0, 1, 0, BLOCK_BYTES, 0, BLOCK_BYTES), out)
            case _:
                raise FuseError(errno.ENOSYS)

    def _write(self, body: memoryview, out: memoryview) -> int:
        offset, size = WRITE_BODY.unpack_from(body)
        data = body[WRITE_BODY.size : WRITE_BODY.size + size]
        if len(data) != size:
            raise ValueError("the request is shorter than it says")
        self._session.write(offset, data)
        WRITE_REPLY.pack_into(out, 0, size)
        return WRITE_REPLY.size

    def _forget(self, offset: int, size: int, mode: int) -> int:
        if mode not in _FORGETTING:
            raise FuseError(errno.EOPNOTSUPP)
        self._store.forget(offset, size)
        return 0


def _copy(answer: bytes, out: memoryview) -> int:
    out[: len(answer)] = answer
    return len(answer)
