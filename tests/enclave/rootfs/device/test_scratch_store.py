"""The scratch returns what was written last, zeros where nothing was, or nothing ever again."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.enclave.rootfs.device.block_table import COUNTER_BYTES, ENTRY_BYTES
from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError, VirtualDevice
from enclave_cc.enclave.rootfs.device.scratch_store import (
    BLOCK_BYTES,
    MAX_TRANSFER_BYTES,
    BlocksLostError,
    ScratchStore,
)

BLOCKS = 16


class MemoryFile:
    """The host's file, with everything that the host can do to it."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.full = False
        self.punched = []

    def read_into(self, offset, buffer):
        part = self.data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def write(self, offset, data):
        if self.full:
            raise OSError(errno.ENOSPC, "no room")
        self.data[offset : offset + len(data)] = data

    def punch(self, offset, size):
        self.punched.append((offset, size))

    def block(self, number: int) -> slice:
        return slice(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)


class Alarm:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


class Scratch:
    """A store with its file, and who is told."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        self.alarm = Alarm()
        self.file = MemoryFile(blocks * BLOCK_BYTES)
        self.device = VirtualDevice([], on_poison=self.alarm)
        self.store = ScratchStore(self.file, blocks, self.device)
        self.session = self.store.session()

    def write(self, block: int, data: bytes) -> None:
        self.session.write(block * BLOCK_BYTES, data)

    def read(self, block: int, count: int = 1) -> bytes:
        out = memoryview(bytearray(count * BLOCK_BYTES))
        return bytes(out[: self.session.read_into(block * BLOCK_BYTES, out)])

    def assert_refused(self, block: int, count: int = 1) -> str:
        """Reading is refused, the owner hears why once, and everything else is refused from then on."""
        with pytest.raises(DeviceRefusedError):
            self.read(block, count)
        assert self.alarm.rang.wait(5)
        with pytest.raises(DeviceRefusedError):
            self.read(BLOCKS - 1)
        with pytest.raises(DeviceRefusedError):
            self.write(0, bytes(BLOCK_BYTES))
        with pytest.raises(DeviceRefusedError):
            self.store.forget(0, BLOCK_BYTES)
        (finding,) = self.alarm.findings
        assert finding.actual.startswith("block ")
        return finding.actual


@pytest.fixture
def scratch():
    return Scratch()


def pattern(number: int, count: int = 1) -> bytes:
    return bytes([number]) * BLOCK_BYTES * count


def test_what_was_never_written_reads_as_zeros_whatever_the_host_has_there(scratch):
    scratch.file.data[:] = os.urandom(len(scratch.file.data))
    assert scratch.read(0, BLOCKS) == bytes(BLOCKS * BLOCK_BYTES)
    scratch.write(3, pattern(7))
    assert scratch.read(2, 3) == bytes(BLOCK_BYTES) + pattern(7) + bytes(BLOCK_BYTES)


def test_the_host_sees_no_plaintext_and_never_the_same_ciphertext_twice(scratch):
    seen = set()
    for _ in range(3):
        scratch.write(1, pattern(9))
        seen.add(bytes(scratch.file.data[scratch.file.block(1)]))
    assert len(seen) == 3
    assert not any(bytes([9]) * 16 in ciphertext for ciphertext in seen)


def test_a_flipped_bit_is_refused(scratch):
    scratch.write(4, pattern(1, 3))
    scratch.file.data[5 * BLOCK_BYTES + 77] ^= 1
    assert "block 5 " in scratch.assert_refused(4, 3)


def test_a_block_from_an_earlier_time_is_refused(scratch):
    scratch.write(4, pattern(1))
    earlier = bytes(scratch.file.data)
    scratch.write(4, pattern(2))
    scratch.file.data[:] = earlier
    assert "block 4 " in scratch.assert_refused(4)


def test_blocks_that_were_exchanged_are_refused(scratch):
    scratch.write(4, pattern(1, 2))
    first, second = scratch.file.block(4), scratch.file.block(5)
    scratch.file.data[first], scratch.file.data[second] = scratch.file.data[second], scratch.file.data[first]
    scratch.assert_refused(5)


def test_a_block_that_was_copied_to_another_place_is_refused(scratch):
    scratch.write(4, pattern(1))
    scratch.write(9, pattern(1))
    scratch.file.data[scratch.file.block(9)] = scratch.file.data[scratch.file.block(4)]
    scratch.assert_refused(9)


def test_zeros_in_the_place_of_a_written_block_are_refused(scratch):
    scratch.write(4, pattern(1))
    scratch.file.data[scratch.file.block(4)] = bytes(BLOCK_BYTES)
    scratch.assert_refused(4)


def test_a_file_that_was_cut_off_is_refused(scratch):
    scratch.write(4, pattern(1))
    del scratch.file.data[4 * BLOCK_BYTES + 100 :]
    assert "cut off" in scratch.assert_refused(4)


def test_blocks_of_another_scratch_are_refused(scratch):
    other = Scratch()
    for each in (scratch, other):
        each.write(4, pattern(1))
    scratch.file.data[:] = other.file.data
    scratch.assert_refused(4)


def test_a_disk_that_fails_to_read_is_no_reason_to_go_on(scratch):
    scratch.write(0, pattern(1))

    def fail(offset, buffer):
        raise OSError(errno.EIO, "failing")

    scratch.file.read_into = fail
    with pytest.raises(DeviceRefusedError):
        scratch.read(0)
    assert scratch.alarm.rang.wait(5)


def test_a_poisoned_image_stops_the_scratch_too(scratch):
    scratch.write(0, pattern(1))
    scratch.device.poison("layer 1: chunk 0 is bad")
    with pytest.raises(DeviceRefusedError):
        scratch.read(0)


def test_a_disk_without_room_loses_the_blocks_and_nothing_else(scratch):
    scratch.write(0, pattern(1, 3))
    scratch.file.full = True
    with pytest.raises(OSError, match="no room"):
        scratch.write(1, pattern(2))
    with pytest.raises(BlocksLostError):
        scratch.read(1)
    assert scratch.read(0) == pattern(1)
    assert scratch.read(2) == pattern(1)
    scratch.file.full = False
    scratch.write(1, pattern(3))
    assert scratch.read(0, 3) == pattern(1) + pattern(3) + pattern(1)
    assert not scratch.alarm.findings


def test_what_is_written_after_retirement_is_lost_and_never_old(scratch):
    scratch.write(0, pattern(1, 2))
    before = bytes(scratch.file.data)
    scratch.store.retire()
    scratch.write(0, pattern(2))
    assert bytes(scratch.file.data) == before
    with pytest.raises(BlocksLostError):
        scratch.read(0)
    assert scratch.read(1) == pattern(1)


def test_forgotten_blocks_read_as_zeros_and_the_room_goes_back(scratch):
    scratch.write(0, pattern(1, 4))
    scratch.store.forget(BLOCK_BYTES, 2 * BLOCK_BYTES)
    assert scratch.file.punched == [(BLOCK_BYTES, 2 * BLOCK_BYTES)]
    assert scratch.read(0, 4) == pattern(1) + bytes(2 * BLOCK_BYTES) + pattern(1)


def test_a_disk_that_cannot_take_room_back_changes_nothing(scratch):
    def refuse(offset, size):
        raise OSError(errno.EOPNOTSUPP, "cannot")

    scratch.file.punch = refuse
    scratch.write(0, pattern(1))
    scratch.store.forget(0, BLOCK_BYTES)
    assert scratch.read(0) == bytes(BLOCK_BYTES)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, BLOCK_BYTES), (0, 100), (BLOCKS * BLOCK_BYTES, BLOCK_BYTES), (-BLOCK_BYTES, BLOCK_BYTES)],
)
def test_only_whole_blocks_within_the_scratch_are_written(scratch, offset, size):
    with pytest.raises(ValueError, match="whole blocks"):
        scratch.session.write(offset, bytes(size))
    with pytest.raises(ValueError, match="whole blocks"):
        scratch.store.forget(offset, size)


def test_more_than_a_transfer_is_not_written(scratch):
    large = Scratch(MAX_TRANSFER_BYTES // BLOCK_BYTES + 1)
    with pytest.raises(ValueError, match="transfer"):
        large.session.write(0, bytes(MAX_TRANSFER_BYTES + BLOCK_BYTES))


def test_reading_stops_at_the_end(scratch):
    assert scratch.read(BLOCKS - 1, 4) == bytes(BLOCK_BYTES)
    assert scratch.read(BLOCKS) == b""


def test_no_number_is_used_twice_by_any_thread():
    scratch = Scratch(64)
    taken = []

    def work():
        numbers = []
        for count in range(1, 60):
            numbers += scratch.store.counters(count)
        taken.extend(numbers)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 4 * sum(range(1, 60))
    assert 0 not in taken


def test_each_block_of_a_write_has_a_number_of_its_own(scratch):
    for _ in range(3):
        scratch.write(0, pattern(1, BLOCKS))
    entries = scratch.store.table.get(range(BLOCKS))
    numbers = [
        int.from_bytes(entries[place : place + COUNTER_BYTES], "little")
        for place in range(0, len(entries), ENTRY_BYTES)
    ]
    assert numbers == list(range(2 * BLOCKS + 1, 3 * BLOCKS + 1))


def test_the_key_seals_no_more_than_there_are_numbers(scratch):
    scratch.store._next_counter = (1 << 64) - 2
    scratch.write(0, pattern(1))
    with pytest.raises(OverflowError):
        scratch.write(0, pattern(2))
    assert scratch.read(0) == pattern(1)


def test_threads_that_read_and_write_one_place_are_never_taken_for_forgers(scratch):
    def work(number):
        session = scratch.store.session()
        out = memoryview(bytearray(4 * BLOCK_BYTES))
        for _ in range(150):
            session.write(0, pattern(number, 4))
            session.read_into(0, out)
            assert {out[0], out[-1]} <= {1, 2, 3}
            assert out[0] == out[-1]

    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not scratch.alarm.findings


PLACES = st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, BLOCKS)).map(
    lambda place: (place[0], min(place[1], BLOCKS - place[0]))
)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "forget", "read"]), PLACES, st.integers(1, 255)), max_size=20
    )
)
def test_any_sequence_of_requests_reads_like_plain_memory(requests):
    scratch, plain = Scratch(), bytearray(BLOCKS * BLOCK_BYTES)
    for request, (block, count), number in requests:
        part = slice(block * BLOCK_BYTES, (block + count) * BLOCK_BYTES)
        if request == "write":
            plain[part] = pattern(number, count)
            scratch.write(block, pattern(number, count))
        elif request == "forget":
            plain[part] = bytes(count * BLOCK_BYTES)
            scratch.store.forget(block * BLOCK_BYTES, count * BLOCK_BYTES)
        assert scratch.read(block, count) == plain[part]
    assert scratch.read(0, BLOCKS) == plain


@settings(max_examples=60)
@given(st.integers(0, BLOCKS * BLOCK_BYTES - 1), st.integers(0, 7), st.integers(0, BLOCKS - 1))
def test_any_changed_bit_is_refused_where_it_was_written_and_ignored_elsewhere(place, bit, written):
    scratch = Scratch()
    scratch.write(written, pattern(1))
    scratch.file.data[place] ^= 1 << bit
    if place // BLOCK_BYTES == written:
        scratch.assert_refused(0, BLOCKS)
    else:
        assert scratch.read(written) == pattern(1)
