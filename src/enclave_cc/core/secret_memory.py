"""
Memory for keys: not in core dumps, not swapped, and where the kernel can (memfd_secret), of nobody else.

Where it can, even the kernel has no mapping of it: who reads ``/proc/PID/mem`` gets an error. Elsewhere it
is locked and left out of dumps, as far as limits allow. Keys are small, so many share one mapping, in slots;
a slot is given out again only when nobody looks at it any more. docs/adr/0010 says what this does not reach.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT_BYTES: Final = 64
# Locked memory is scarce: without privileges a process may have 8 MiB of it, or 64 KiB on older systems.
_SLAB_BYTES: Final = 16 * 1024
# The same on every architecture; C libraries have no function for it.
_SYS_MEMFD_SECRET: Final = 447
_MADV_DONTDUMP: Final = 16
_MREMAP_MAYMOVE: Final = 1
_MREMAP_FIXED: Final = 2
_FAILED: Final = ctypes.c_void_p(-1).value


@functools.cache
def secret_memory() -> SecretMemory:
    """Return the one memory of this process."""
    return SecretMemory()


def overwrite(value: bytes) -> None:
    """
    Overwrite what cannot be changed: only for what a primitive has just returned, and nobody else can have.

    Some primitives have no form that writes into a buffer. Bytes lie at the end of their object in CPython.
    """
    # Those of one byte or none are the interpreter's, and everybody's.
    if len(value) > 1:
        ctypes.memset(id(value) + bytes.__basicsize__ - 1, 0, len(value))


class SecretMemory:
    """Hands out zeroed buffers; safe to use from several threads, and after a fork in both processes."""

    def __init__(self) -> None:
        self._libc = _libc()
        # Taking from a list and adding to it are single steps for all threads.
        self._free: list[int] = []
        # Address to size.
        self._mappings: dict[int, int] = {}
        # While forks are under way: where each mapping's copy is, and how large, by the thread that forks.
        self._copies: dict[int, dict[int, tuple[int, int]]] = {}
        os.register_at_fork(
            before=self._copy_for_child,
            after_in_parent=self._leave_copy_to_child,
            after_in_child=self._part_from_parent,
        )

    def take(self, size_bytes: int) -> memoryview:
        """Return so much memory; it is overwritten and given back when the last view of it is gone."""
        if size_bytes > SLOT_BYTES:
            address = self._map(size_bytes)
            give_back: Callable[[int], None] = self._unmap
        else:
            address = self._take_slot()
            give_back = self._give_back
        buffer = (ctypes.c_ubyte * size_bytes).from_address(address)
        weakref.finalize(buffer, give_back, address).atexit = False
        return memoryview(buffer).cast("B")

    def fill_randomly(self, memory: memoryview) -> None:
        """Let the kernel write random bytes there, without a copy anywhere else."""
        buffer = (ctypes.c_ubyte * len(memory)).from_buffer(memory)
        done = 0
        while done < len(memory):
            count = self._libc.getrandom(ctypes.addressof(buffer) + done, len(memory) - done, 0)
            if count < 0 and (number := ctypes.get_errno()) != errno.EINTR:
                raise OSError(number, os.strerror(number))
            done += max(count, 0)

    def _take_slot(self) -> int:
        while True:
            try:
                return self._free.pop()
            except IndexError:
                address = self._map(_SLAB_BYTES)
                self._free.extend(range(address, address + _SLAB_BYTES, SLOT_BYTES))

    def _give_back(self, address: int) -> None:
        ctypes.memset(address, 0, SLOT_BYTES)
        self._free.append(address)

    def _unmap(self, address: int) -> None:
        size = self._mappings.pop(address)
        ctypes.memset(address, 0, size)
        self._libc.munmap(address, size)

    def _map(self, size_bytes: int) -> int:
        size = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        address = self._new_mapping(size)
        self._mappings[address] = size
        return address

    def _new_mapping(self, size: int) -> int:
        return self._map_secret(size) or self._map_locked(size)

    def _map_secret(self, size: int) -> int | None:
        """Map memory that only this process has; None where the kernel has no such, or limits forbid it."""
        fd = self._libc.syscall(_SYS_MEMFD_SECRET, os.O_CLOEXEC)
        if fd < 0:
            return None
        try:
            os.ftruncate(fd, size)
            address = self._libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        finally:
            os.close(fd)
        return None if address == _FAILED else address

    def _map_locked(self, size: int) -> int:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = self._libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if address == _FAILED:
            raise MemoryError("no memory for keys")
        # Neither is a reason to do without the key: what is left is what every process has.
        self._libc.mlock(address, size)
        self._libc.madvise(address, size, _MADV_DONTDUMP)
        return int(address)

    def _copy_for_child(self) -> None:
        """Before a fork, copy everything: the parent may wipe its own before the child has looked at it."""
        copies = self._copies[get_ident()] = {}
        for address, size in tuple(self._mappings.items()):
            copies[address] = (self._copy_of(address, size), size)

    def _leave_copy_to_child(self) -> None:
        for copy, size in self._copies.pop(get_ident(), {}).values():
            self._libc.munmap(copy, size)

    def _part_from_parent(self) -> None:
        """
        Put the copies where the child inherited what it must not share with its parent.

        One of them would wipe the other's keys, or write its own into them.
        """
        copies = self._copies.pop(get_ident(), {})
        self._copies.clear()
        how = _MREMAP_MAYMOVE | _MREMAP_FIXED
        for address, size in self._mappings.items():
            # Another thread may have made one after the copies.
            copy, _ = copies.get(address) or (self._copy_of(address, size), size)
            if self._libc.mremap(copy, size, size, how, address) != address:
                # Better no process than one that shares.
                os.abort()

    def _copy_of(self, address: int, size: int) -> int:
        copy = self._new_mapping(size)
        ctypes.memmove(copy, address, size)
        return copy


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.syscall.argtypes = (ctypes.c_long, ctypes.c_uint)
    libc.syscall.restype = ctypes.c_long
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    libc.mmap.restype = pointer
    libc.mremap.argtypes = (pointer, size, size, number, pointer)
    libc.mremap.restype = pointer
    libc.getrandom.argtypes = (pointer, size, ctypes.c_uint)
    libc.getrandom.restype = ctypes.c_ssize_t
    libc.munmap.argtypes = libc.mlock.argtypes = (pointer, size)
    libc.madvise.argtypes = (pointer, size, number)
    return libc
