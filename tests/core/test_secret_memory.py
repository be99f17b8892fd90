"""Keys in memory of their own: not in dumps, not in other processes, given out again when nobody looks."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import threading
from pathlib import Path

import pytest
from tests.children import status_of
from tests.core.memory_scan import patient

from enclave_cc.core.secret import Secret
from enclave_cc.core.secret_memory import SLOT_BYTES, SecretMemory, overwrite, secret_memory


class WithoutMemfd(SecretMemory):
    """A kernel that has no memfd_secret, or a process whose limits are used up."""

    def _map_secret(self, size):
        return None


@pytest.fixture(params=[SecretMemory, WithoutMemfd], ids=["memfd_secret", "locked"])
def memory(request):
    return request.param()


def address_of(view) -> int:
    return ctypes.addressof((ctypes.c_ubyte * len(view)).from_buffer(view))


def test_memory_is_zeroed_when_it_is_given_back_and_used_again(memory):
    first = memory.take(32)
    first[:] = b"k" * 32
    address = address_of(first)
    del first
    gc.collect()
    assert ctypes.string_at(address, 32) == bytes(32)
    taken = [memory.take(32) for _ in range(1000)]
    assert address in map(address_of, taken)
    assert len({address_of(view) for view in taken}) == 1000


def test_memory_is_not_used_again_while_anybody_looks_at_it(memory):
    view = memory.take(32)
    part = view.toreadonly()[3:5]
    address = address_of(view)
    del view
    gc.collect()
    taken = [memory.take(32) for _ in range(1000)]
    assert address not in map(address_of, taken)
    assert bytes(part) == bytes(2)


@pytest.mark.parametrize("size", [0, 1, SLOT_BYTES, SLOT_BYTES + 1, 100_000])
def test_any_size_can_be_taken(memory, size):
    view = memory.take(size)
    view[:] = b"x" * size
    assert bytes(view) == b"x" * size


def test_what_is_large_is_unmapped_when_nobody_needs_it(memory):
    view = memory.take(100_000)
    address = address_of(view)
    del view
    gc.collect()
    assert f"{address:x}-" not in Path("/proc/self/maps").read_text()


def test_a_child_has_its_own_copy_at_the_same_place(memory):
    view, large = memory.take(32), memory.take(100_000)
    view[:], large[:5] = b"p" * 32, b"large"

    def child():
        assert bytes(view) == b"p" * 32
        assert bytes(large[:5]) == b"large"
        view[:] = bytes(32)
        large[:5] = bytes(5)
        for _ in range(1000):
            memory.take(32)[:] = b"c" * 32

    assert status_of(child) == 0
    assert bytes(view) == b"p" * 32
    assert bytes(large[:5]) == b"large"


def test_a_parent_that_wipes_takes_nothing_from_its_child(memory):
    view = memory.take(32)
    view[:] = b"p" * 32
    go_on, wiped = os.pipe()

    def child():
        os.read(go_on, 1)
        assert bytes(view) == b"p" * 32

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    view[:] = bytes(32)
    os.write(wiped, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(go_on)
    os.close(wiped)


def flags_of(address: int) -> set[str]:
    """Return the kernel's flags of the mapping that begins at or before an address."""
    for text in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", text)
        if found and int(found[1], 16) <= address < int(found[2], 16):
            return set(text.rpartition("VmFlags:")[2].split())
    raise AssertionError("not mapped")


def test_keys_are_left_out_of_core_dumps_and_of_swap(memory):
    view = memory.take(32)
    flags = flags_of(address_of(view))
    assert "dd" in flags
    # "lo": locked. A process that may lock nothing keeps its keys all the same.
    assert "lo" in flags or os.geteuid()


def test_the_childs_keys_are_left_out_of_core_dumps_too(memory):
    view = memory.take(32)
    assert status_of(lambda: flags_of(address_of(view)) >= {"dd"} or os.abort()) == 0


def test_threads_never_get_the_same_memory(memory):
    taken, lock = [], threading.Lock()

    def take():
        mine = [memory.take(32) for _ in range(500)]
        with lock:
            taken.extend(mine)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({address_of(view) for view in taken}) == 2000


def test_without_any_memory_there_is_an_error(memory, monkeypatch):
    class Full:
        def mmap(self, *_):
            return ctypes.c_void_p(-1).value

    memory = WithoutMemfd()
    monkeypatch.setattr(memory, "_libc", Full())
    with pytest.raises(MemoryError):
        memory.take(32)


def test_random_secrets_differ_and_a_failing_source_is_an_error(monkeypatch):
    assert Secret.random() != Secret.random()
    assert len(Secret.random(1000)) == 1000
    assert bytes(Secret.random(1000).reveal()[900:]) != bytes(100)

    class Broken:
        def getrandom(self, *_):
            ctypes.set_errno(5)
            return -1

    monkeypatch.setattr(secret_memory(), "_libc", Broken())
    with pytest.raises(OSError, match="Input/output"):
        secret_memory().fill_randomly(memoryview(bytearray(4)))


def test_absorbing_leaves_nothing_in_the_buffer():
    buffer = bytearray(b"key and more")
    secret = Secret.absorb(memoryview(buffer)[:3])
    assert bytes(secret.reveal()) == b"key"
    assert bytes(buffer) == bytes(3) + b" and more"


def test_what_a_primitive_returned_is_overwritten_in_place():
    value = os.urandom(32)
    overwrite(value)
    assert value == bytes(32)
    overwrite(b"")
    # This one is the interpreter's own, and everybody's.
    overwrite(b"x")
    assert bytes([120]) == bytearray([120])


def test_a_live_key_is_nowhere_that_a_dump_reaches():
    with patient("key = Secret.random(); tell(key); step()") as process:
        found = process.look()
        if not Path(f"/proc/{process.process.pid}/maps").read_text().count("secretmem"):
            pytest.skip("this kernel has no memfd_secret")
        assert found == 0


def test_the_scan_finds_what_is_there():
    with patient("key = Secret.random(); copy = bytearray(key.reveal()); tell(key); step()") as process:
        assert process.look() == 2
