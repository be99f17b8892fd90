"""One file is served; the kernel is asked to read far ahead in it, and all of a chunk it wanted a part of."""

from __future__ import annotations

import errno
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.fuse.file import FileOperations, serve_file
from enclave_cc.enclave.rootfs.fuse.prefetch import ChunkPrefetcher
from enclave_cc.enclave.rootfs.fuse.protocol import FuseError, Opcode
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES

CHUNKS = 64
CONTENT = random.Random(4).randbytes(CHUNKS * CHUNK_BYTES)
PAGE = 4096
PATIENCE_S = 10
# Each of these reads pages here and there, and compares them; the content's seed is all that it knows.
READER = f"""
import os, random, sys
content = random.Random(4).randbytes({CHUNKS} * {CHUNK_BYTES})
fd, where = os.open(sys.argv[1], os.O_RDONLY), random.Random(int(sys.argv[2]))
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    size = where.choice([4096, 4096, 8192, 100_000])
    offset = where.randrange(len(content) - size)
    if os.pread(fd, size, offset) != content[offset : offset + size]:
        sys.exit("a wrong byte")
"""


class RecordingDevice:
    """Holds the content, remembers what was read, and refuses or keeps waiting on request."""

    def __init__(self, *, limit: int | None = None, delay_s: float = 0):
        self.size = len(CONTENT)
        self.limit = limit
        self.delay_s = delay_s
        self.reads = []
        self.lock = threading.Lock()

    def reader(self):
        return RecordingReader(self)

    def covers(self, start: int, end: int) -> bool:
        with self.lock:
            pages = {offset // PAGE + step for offset, size in self.reads for step in range(size // PAGE)}
        return pages >= set(range(start // PAGE, end // PAGE))


class RecordingReader:
    def __init__(self, device):
        self.device = device
        self.opened_in_part = None

    def read_into(self, offset, out):
        device = self.device
        with device.lock:
            self.opened_in_part = None
            if device.limit is not None and len(device.reads) >= device.limit:
                raise DeviceRefusedError
            device.reads.append((offset, len(out)))
        time.sleep(device.delay_s)
        if len(out) < CHUNK_BYTES:
            self.opened_in_part = offset // CHUNK_BYTES
        part = CONTENT[offset : offset + len(out)]
        out[: len(part)] = part
        return len(part)


def eventually(holds) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def page(path: Path, offset: int) -> bytes:
    """Read one page, and let the kernel see that it is random access."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(fd, PAGE, offset)
    finally:
        os.close(fd)


def own_mounts(base: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.touch()
    return path


def test_opening_is_answered_so_that_closing_asks_nothing():
    operations = FileOperations(RecordingDevice(), ChunkPrefetcher())
    out = memoryview(bytearray(100))
    size = operations.answer(Opcode.OPEN, 1, memoryview(b""), out)
    assert struct.unpack("<QII", out[:size]) == (0, 2 | 32, 0)
    with pytest.raises(FuseError) as caught:
        operations.answer(25, 1, memoryview(b""), out)  # FLUSH
    assert caught.value.number == errno.ENOSYS


def test_wishes_are_dropped_where_there_are_too_many():
    prefetcher = ChunkPrefetcher()
    for chunk in range(1000):
        prefetcher.want(chunk)
    prefetcher.close()


@pytest.mark.root
def test_after_a_page_the_rest_of_its_chunk_is_read(image, in_private_mounts):
    def body():
        device = RecordingDevice()
        served = serve_file(device, image)
        assert page(image, 5 * CHUNK_BYTES + 3 * PAGE) == CONTENT[5 * CHUNK_BYTES + 3 * PAGE :][:PAGE]
        assert eventually(lambda: device.covers(5 * CHUNK_BYTES, 6 * CHUNK_BYTES))
        assert not device.covers(4 * CHUNK_BYTES, 4 * CHUNK_BYTES + PAGE)
        served.close()

    in_private_mounts(body)


@pytest.mark.root
def test_what_is_refused_is_not_in_the_cache_afterwards(image, in_private_mounts):
    def body():
        device = RecordingDevice(limit=1)
        served = serve_file(device, image)
        assert page(image, 3 * PAGE) == CONTENT[3 * PAGE :][:PAGE]
        time.sleep(0.2)
        for number in (0, 1, 2, 4, 5, 15):
            with pytest.raises(OSError, match="Input/output error"):
                page(image, number * PAGE)
        assert page(image, 3 * PAGE) == CONTENT[3 * PAGE :][:PAGE]
        served.close()

    in_private_mounts(body)


@pytest.mark.root
def test_requests_grow_far_beyond_the_kernels_usual_limit(image, in_private_mounts):
    def body():
        device = RecordingDevice()
        served = serve_file(device, image)
        limit = Path("/sys/class/bdi") / f"0:{os.minor(image.stat().st_dev)}" / "read_ahead_kb"
        if limit.read_text() == "1024\n":
            assert image.read_bytes() == CONTENT
            assert max(size for _, size in device.reads) == 1 << 20
        served.close()

    in_private_mounts(body)


@pytest.mark.root
def test_many_readers_some_of_them_killed_see_what_is_served(image, in_private_mounts):
    def body():
        served = serve_file(RecordingDevice(delay_s=0.0002), image)
        readers = [
            subprocess.Popen([sys.executable, "-c", READER, image, str(seed), "300"], stdout=subprocess.PIPE)
            for seed in range(6)
        ]
        for reader in readers:
            assert reader.stdout.readline() == b"ready\n"
        for reader in readers[:3]:
            time.sleep(0.02)
            reader.kill()
        for reader in readers:
            reader.communicate()
        assert [reader.returncode for reader in readers[3:]] == [0, 0, 0]
        served.close()
        assert not own_mounts(image)

    in_private_mounts(body)


@pytest.mark.root
@pytest.mark.parametrize("pause_s", [0, 0.03])
def test_closing_while_chunks_are_asked_for_ends_everything(image, in_private_mounts, pause_s):
    def body():
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        served = serve_file(RecordingDevice(delay_s=0.001), image)
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, image, str(seed), "100000"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for seed in range(3)
        ]
        for reader in readers:
            assert reader.stdout.readline() == b"ready\n"
        time.sleep(pause_s)
        served.close()
        assert threading.active_count() == 1
        assert len(list(Path("/proc/self/fd").iterdir())) - len(readers) <= descriptors
        assert not own_mounts(image)
        for reader in readers:
            reader.communicate()
            assert reader.returncode == 1

    in_private_mounts(body)


@pytest.mark.root
def test_a_server_killed_while_nothing_is_answered_ends_at_once_and_so_do_readers(image, in_private_mounts):
    """The server has its own file open and pages of it locked: neither may keep it from dying."""

    def body():
        ready, tell = os.pipe()
        server = os.fork()
        if server == 0:
            device = RecordingDevice()
            serve_file(device, image)
            # Not closed: the very first closing of all may be that of a dead process.
            fd = os.open(image, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(fd, PAGE, 0)
            assert eventually(lambda: device.covers(0, CHUNK_BYTES))
            # From now on both threads of the server wait, and requests wait for them.
            device.delay_s = 1000
            os.write(tell, b"!")
            signal.pause()
        assert os.read(ready, 1) == b"!"
        readers = []
        for number in range(1, 7):
            reader = os.fork()
            if reader == 0:
                try:
                    page(image, number * CHUNK_BYTES)
                except OSError:
                    os._exit(7)
                os._exit(0)
            readers.append(reader)
        time.sleep(0.3)
        os.kill(server, signal.SIGKILL)
        for child, status in ((server, -9), *((reader, 7) for reader in readers)):
            assert eventually(
                lambda child=child: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            )
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status

    in_private_mounts(body)
