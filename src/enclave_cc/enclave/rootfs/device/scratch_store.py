"""
The scratch: blocks that can be written, on a disk that belongs to the host, for as long as we live.

Each block of 4 KiB is sealed with AES-256-GCM under one key that is drawn here and kept nowhere else.
The nonce is a counter that goes up with every block sealed, whichever it is, so no nonce is used twice.
Counter and tag lie in the block table, in memory: a block from an earlier time or another place does
not open. The first that does not open poisons the whole root file system.
"""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.block_table import (
    COUNTER_BYTES,
    ENTRY_BYTES,
    LOST,
    NEVER_WRITTEN,
    BlockTable,
)
from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.device.ranges import RangeLock

if TYPE_CHECKING:
    from enclave_cc.formats.sealed.chunks import Octets

BLOCK_BYTES: Final = 4096
# As much as the kernel writes or asks for at once.
MAX_TRANSFER_BYTES: Final = 1 << 20
EXPECTED: Final = "blocks as the workload wrote them last"
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = ENTRY_BYTES - COUNTER_BYTES
_NONCE_PADDING: Final = bytes(12 - COUNTER_BYTES)


class BlockFile(Protocol):
    """Where the ciphertext lies; offsets, sizes and buffers are aligned to blocks."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy ciphertext into private memory; return how much there was."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of it, or raise OSError."""

    def punch(self, offset: int, size: int) -> None:
        """Give the room back; what is read there means nothing from then on. Raise OSError if it cannot."""


class Guard(Protocol):
    """What is refused as a whole once a block was."""

    def check(self) -> None:
        """Raise ``DeviceRefusedError`` once something was refused."""

    def poison(self, reason: str) -> None:
        """Return nothing from now on, and tell whoever must know, the first time."""


class BlocksLostError(Exception):
    """The host had no room for these blocks when they were written, or nobody wants them any more."""


class ScratchStore:
    """Blocks below ``size``; each thread works through a session of its own."""

    def __init__(self, file: BlockFile, blocks: int, guard: Guard) -> None:
        self.size = blocks * BLOCK_BYTES
        self.file = file
        self.guard = guard
        self.table = BlockTable(blocks)
        self.ranges = RangeLock()
        self.retired = False
        key = Secret.random(_KEY_BYTES)
        self.cipher = AESGCM(key.reveal())
        key.wipe()
        self._lock = threading.Lock()
        self._next_counter = 1

    def session(self) -> ScratchSession:
        """Return what one thread works with."""
        return ScratchSession(self)

    def counters(self, count: int) -> range:
        """Take numbers that nobody had before; raise ``OverflowError`` when there are no more."""
        with self._lock:
            first = self._next_counter
            if first + count > int.from_bytes(LOST, "little"):
                raise OverflowError("the key has sealed all that it may")
            self._next_counter = first + count
        return range(first, first + count)

    def forget(self, offset: int, size: int) -> None:
        """Read as zeros from now on; the host gets its room back if it cares."""
        self.guard.check()
        blocks = _blocks(offset, size, self.size)
        with self.ranges.hold(blocks, exclusive=True):
            self.table.forget(blocks)
            with suppress(OSError):
                self.file.punch(offset, size)

    def retire(self) -> None:
        """Store nothing any more: what is written from now on is accepted, and lost."""
        self.retired = True

    def close(self) -> None:
        """Forget everything; no session may be at work."""
        self.table.close()


class ScratchSession:
    """Reads and writes for one thread, through buffers that the disk can read into directly."""

    def __init__(self, store: ScratchStore) -> None:
        self._store = store
        # Behind each block there must be room for a tag, and memory of its own is aligned to pages. They
        # exist from the start: when blocks are written because memory is short, there are none to be had.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        self._sealed = memoryview(mmap.mmap(-1, MAX_TRANSFER_BYTES + BLOCK_BYTES, flags=flags))
        self._entries = memoryview(bytearray(MAX_TRANSFER_BYTES // BLOCK_BYTES * ENTRY_BYTES))

    def read_into(self, offset: int, out: memoryview) -> int:
        """
        Fill ``out`` from ``offset`` on; return how many bytes there were.

        Raise ``DeviceRefusedError`` if a block is not what was written last, ``BlocksLostError`` if there
        is none; ``out`` is void then.
        """
        store = self._store
        store.guard.check()
        out = out[: max(0, min(len(out), store.size - offset, MAX_TRANSFER_BYTES))]
        blocks = _blocks(offset, len(out), store.size)
        try:
            with store.ranges.hold(blocks, exclusive=False):
                self._open(blocks, store.table.get(blocks), out)
        except (_RefusedError, OSError) as error:
            store.guard.poison(str(error))
            raise DeviceRefusedError from error
        store.guard.check()
        return len(out)

    def write(self, offset: int, data: Octets) -> None:
        """Seal and store whole blocks; raise OSError if the host's disk does not take them."""
        store = self._store
        store.guard.check()
        blocks = _blocks(offset, len(data), store.size)
        if len(data) > MAX_TRANSFER_BYTES:
            raise ValueError("more than fits into one transfer")
        with store.ranges.hold(blocks, exclusive=True):
            if store.retired:
                store.table.lose(blocks)
                return
            entries = self._seal(memoryview(data), len(blocks))
            try:
                store.file.write(offset, self._sealed[: len(data)])
            except OSError:
                # Some of it may lie there already, over what was there before.
                store.table.lose(blocks)
                raise
            store.table.put(blocks, entries)

    def _seal(self, data: memoryview, count: int) -> memoryview:
        """Encrypt into the buffer, each block over the tag of the one before; return the entries."""
        encrypt_into, sealed, entries = self._store.cipher.encrypt_into, self._sealed, self._entries
        start = place = 0
        for counter in self._store.counters(count):
            stop, behind = start + BLOCK_BYTES, place + ENTRY_BYTES
            number = counter.to_bytes(COUNTER_BYTES, "little")
            encrypt_into(number + _NONCE_PADDING, data[start:stop], None, sealed[start : stop + _TAG_BYTES])
            entries[place : place + COUNTER_BYTES] = number
            entries[place + COUNTER_BYTES : behind] = sealed[stop : stop + _TAG_BYTES]
            start, place = stop, behind
        return entries[:place]

    def _open(self, blocks: range, entries: bytes, out: memoryview) -> None:
        """Decrypt from the last block to the first: its tag is put over the block behind it."""
        size = len(out)
        if entries.count(0) == len(entries):
            out[:] = bytes(size)
            return
        sealed = self._sealed
        if self._store.file.read_into(blocks.start * BLOCK_BYTES, sealed[:size]) != size:
            raise _RefusedError(f"block {blocks.start} or one behind it is cut off")
        for block in reversed(blocks):
            start = (block - blocks.start) * BLOCK_BYTES
            place = (block - blocks.start) * ENTRY_BYTES
            self._open_block(block, entries[place : place + ENTRY_BYTES], start, out)

    def _open_block(self, block: int, entry: bytes, start: int, out: memoryview) -> None:
        stop = start + BLOCK_BYTES
        number = entry[:COUNTER_BYTES]
        if number == NEVER_WRITTEN:
            # Whatever the host has put there.
            out[start:stop] = bytes(BLOCK_BYTES)
            return
        if number == LOST:
            raise BlocksLostError
        sealed = self._sealed
        sealed[stop : stop + _TAG_BYTES] = entry[COUNTER_BYTES:]
        try:
            self._store.cipher.decrypt_into(
                number + _NONCE_PADDING, sealed[start : stop + _TAG_BYTES], None, out[start:stop]
            )
        except InvalidTag as error:
            raise _RefusedError(f"block {block} is not the one that was written last") from error


class _RefusedError(Exception):
    """The host brought something else than was written."""


def _blocks(offset: int, size: int, end: int) -> range:
    """Return the numbers of the blocks at an offset; raise ``ValueError`` unless they are whole and exist."""
    if offset % BLOCK_BYTES or size % BLOCK_BYTES or offset < 0 or offset + size > end:
        raise ValueError("only whole blocks within the scratch can be read and written")
    return range(offset // BLOCK_BYTES, (offset + size) // BLOCK_BYTES)
