"""The device returns what was sealed, or nothing, and never anything again after the first bad chunk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError, Segment, VirtualDevice
from enclave_cc.enclave.rootfs.mounting.selftest import MemorySource
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, ChunkOpener, ChunkSealer
from enclave_cc.formats.sealed.manifest import Manifest, SealedBlob

PLAINTEXT = [os.urandom(n * CHUNK_BYTES) for n in (1, 30, 0, 2)]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Alarm:
    """Remembers what it was told."""

    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


def seal(data: bytes) -> tuple[Secret, bytes]:
    key = Secret.random(32)
    sealer = ChunkSealer(key)
    sealed = b"".join(bytes(view) for view in sealer.feed(data))
    return key, sealed + bytes(sealer.finish())


@pytest.fixture
def blobs(tmp_path):
    blobs = []
    for number, data in enumerate(PLAINTEXT):
        key, sealed = seal(data)
        name = f"{number:032x}.blob"
        (tmp_path / name).write_bytes(sealed)
        blobs.append(SealedBlob(name, len(data) // CHUNK_BYTES, key))
    return Manifest(tuple(blobs))


@pytest.fixture
def opened(tmp_path, blobs):
    """Open the device; whatever is opened is closed."""
    devices = []

    def make(alarm=None):
        devices.append(VirtualDevice.of_directory(tmp_path, blobs, on_poison=alarm or Alarm()))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


def read(device: VirtualDevice, offset: int, size: int) -> bytes:
    out = bytearray(size)
    return bytes(out[: device.reader().read_into(offset, memoryview(out))])


WHOLE = b"".join(PLAINTEXT)
MEMORY = VirtualDevice(
    [
        Segment(MemorySource(sealed), ChunkOpener(key), len(data) // CHUNK_BYTES)
        for data, (key, sealed) in ((data, seal(data)) for data in PLAINTEXT)
    ],
    on_poison=Alarm(),
)


@given(st.integers(0, len(WHOLE) + 100_000), st.integers(0, 1 << 20))
def test_any_range_reads_as_sealed(offset, size):
    assert read(MEMORY, offset, size) == WHOLE[offset : offset + size]


def test_files_read_as_sealed(opened):
    device = opened()
    assert device.size == len(WHOLE)
    assert read(device, 0, len(WHOLE)) == WHOLE
    assert read(device, 5, 10) == WHOLE[5:15]


def test_a_reader_says_which_chunk_it_opened_for_a_part(opened):
    reader = opened().reader()
    out = memoryview(bytearray(3 * CHUNK_BYTES))
    for offset, size, expected in (
        (5 * CHUNK_BYTES + 9, 10, 5),
        (5 * CHUNK_BYTES, 4096, None),  # It is still open.
        (7 * CHUNK_BYTES, 2 * CHUNK_BYTES, None),
        (10 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1, 12),
        (len(WHOLE), 100, None),
    ):
        reader.read_into(offset, out[:size])
        assert reader.opened_in_part == expected


def damage(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_changed_bit_poisons_once_and_for_all(tmp_path, blobs, opened):
    alarm = Alarm()
    device = opened(alarm)
    # This chunk is in the cache when the other one is refused.
    read(device, 0, 100)
    damage(tmp_path / blobs.blobs[1].name, 3 * STRIDE_BYTES + 7)
    out = bytearray(CHUNK_BYTES)
    for offset in (4 * CHUNK_BYTES, 0, 5 * CHUNK_BYTES, 4 * CHUNK_BYTES):
        with pytest.raises(DeviceRefusedError):
            device.reader().read_into(offset, memoryview(out))
    assert alarm.rang.wait(5)
    (finding,) = alarm.findings
    assert (finding.rule, finding.outcome) == ("rootfs.chunk", Outcome.FAILED)


def test_the_owner_is_told_even_if_there_are_no_more_threads(tmp_path, blobs, opened, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    alarm = Alarm()
    device = opened(alarm)
    damage(tmp_path / blobs.blobs[1].name, 3 * STRIDE_BYTES + 7)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DeviceRefusedError):
        read(device, 4 * CHUNK_BYTES, 10)
    assert len(alarm.findings) == 1


def test_a_file_that_shrinks_later_poisons(tmp_path, blobs, opened):
    alarm = Alarm()
    device = opened(alarm)
    os.truncate(tmp_path / blobs.blobs[3].name, STRIDE_BYTES + 100)
    with pytest.raises(DeviceRefusedError):
        read(device, len(WHOLE) - 10, 10)
    assert alarm.rang.wait(5)


def test_swapped_chunks_poison(tmp_path, blobs, opened):
    path = tmp_path / blobs.blobs[3].name
    data = path.read_bytes()
    path.write_bytes(data[STRIDE_BYTES:] + data[:STRIDE_BYTES])
    with pytest.raises(DeviceRefusedError):
        read(opened(), len(WHOLE) - 10, 10)


def test_a_chunk_of_another_blob_poisons(tmp_path, blobs, opened):
    first = (tmp_path / blobs.blobs[0].name).read_bytes()
    path = tmp_path / blobs.blobs[1].name
    path.write_bytes(first + path.read_bytes()[STRIDE_BYTES:])
    with pytest.raises(DeviceRefusedError):
        read(opened(), CHUNK_BYTES, 10)


@pytest.mark.parametrize("change", ["shorter", "longer", "missing", "link", "pipe", "directory"])
def test_a_blob_that_is_not_the_file_we_wrote_is_refused(tmp_path, blobs, opened, change):
    path = tmp_path / blobs.blobs[1].name
    data = path.read_bytes()
    path.unlink()
    match change:
        case "shorter":
            path.write_bytes(data[:-STRIDE_BYTES])
        case "longer":
            path.write_bytes(data + bytes(STRIDE_BYTES))
        case "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.symlink_to("elsewhere")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    before = open_descriptors()
    with pytest.raises(RefusedError) as caught:
        opened()
    assert caught.value.code == "sealed-blob-truncated"
    assert open_descriptors() == before


def test_many_readers_at_once_read_as_sealed(opened):
    device = opened()
    failures = []

    def work(seed):
        reader, out = device.reader(), bytearray(100_000)
        for step in range(60):
            offset = (seed * 7919 + step * 104_729) % len(WHOLE)
            count = reader.read_into(offset, memoryview(out))
            if out[:count] != WHOLE[offset : offset + count]:
                failures.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
