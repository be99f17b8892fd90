"""
Whatever the host does to the scratch is refused with a finding that names it; no byte is wrong or old.

The host keeps the file of the scratch, and may have kept each earlier state of it. The tree below is served
in each of the ways, since all of it is poisoned together.
"""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from tests.enclave.rootfs.mounting.writable.test_scratch import host_files, settle
from tests.enclave.rootfs.test_tampering import Poisoning

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("mke2fs"), reason="mke2fs is not installed"),
]

BLOCK = 4096
SIZE = 8 << 20
FIRST = b"".join(b"first %06d" % number for number in range(30_000))
LATER = b"".join(b"later %06d" % number for number in range(30_000))


def blocks(data: bytes) -> list[bytes]:
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def overwrite(file, offset: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        os.pwrite(opened.fileno(), data, offset)


def flipped(here: Host, number: int) -> bytes:
    block = bytearray(here.now[here.places[number]])
    block[number % BLOCK] ^= 1 << number % 8
    return bytes(block)


# What is put at each place that the workload wrote to twice.
REPLACED = {
    "flip a bit": flipped,
    "swap blocks around": lambda here, number: here.now[here.places[number - 1]],
    "repeat a block": lambda here, number: here.now[here.places[not number]],
    "put zeros there": lambda here, number: bytes(BLOCK),
    "replay an older block": lambda here, number: here.earlier[here.places[number]],
    "put a block of another scratch there": lambda here, number: here.other[here.places[number]],
}


class Host:
    """What the host has of the scratch: the file, an earlier state of it, and another container's."""

    def __init__(self, file, *, earlier: bytes, other: bytes):
        self.file = file
        self.earlier, self.now, self.other = blocks(earlier), blocks(file.read_bytes()), blocks(other)
        both = enumerate(zip(self.earlier, self.now, strict=True))
        self.places = [place for place, (old, new) in both if old != new and any(old)]
        assert len(self.places) > len(LATER) // BLOCK

    def act(self, name: str) -> None:
        if name == "truncate":
            os.truncate(self.file, self.places[1] * BLOCK + 100)
        else:
            for number, place in enumerate(self.places):
                overwrite(self.file, place * BLOCK, REPLACED[name](self, number))


def written_twice(path, file, first: bytes, later: bytes) -> bytes:
    """Write a file, and write over it; return what the host has of the first writing."""
    path.write_bytes(first)
    settle(path)
    earlier = file.read_bytes()
    with path.open("r+b") as again:
        again.write(later)
    settle(path)
    return earlier


def right_pieces(path, expected: bytes) -> int:
    """Read a file in blocks; assert that what comes is right, and count it."""
    count = 0
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for start in range(0, len(expected), BLOCK):
        try:
            piece = os.pread(fd, BLOCK, start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        else:
            assert piece == expected[start : start + BLOCK]
            count += 1
    os.close(fd)
    return count


@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("act", [*REPLACED, "truncate"])
def test_acts_on_the_scratch_are_refused(*, tmp_path, seal, archive, in_private_mounts, act, backend):
    image = seal(archive(a=b"from the image"))
    options = {"options": RootfsOptions(Writable.SCRATCH, SIZE), "selector": BackendSelector([backend])}

    def body():
        other = image.open(tmp_path / "other", **options)
        (other_file,) = host_files(tmp_path)
        written_twice(other.mountpoint / "b", other_file, FIRST, LATER)
        others = other_file.read_bytes()
        other.close()
        poisoning = Poisoning()
        mounted = image.open(tmp_path / "m", on_poison=poisoning, **options)
        (file,) = host_files(tmp_path)
        path = mounted.mountpoint / "b"
        earlier = written_twice(path, file, FIRST, LATER)
        Host(file, earlier=earlier, other=others).act(act)
        assert right_pieces(path, LATER) < len(blocks(LATER))
        assert poisoning.rang.wait(5)
        (finding,) = poisoning.findings
        assert finding.rule == "rootfs.chunk"
        assert finding.actual.startswith("scratch: block ")
        mounted.close()

    in_private_mounts(body)


def test_what_lies_behind_the_scratch_means_nothing(tmp_path, seal, archive, in_private_mounts):
    image = seal(archive(a=b"from the image"))

    def body():
        mounted = image.open(tmp_path / "m", options=RootfsOptions(Writable.SCRATCH, SIZE))
        (file,) = host_files(tmp_path)
        path = mounted.mountpoint / "b"
        written_twice(path, file, FIRST, LATER)
        size = file.stat().st_size
        os.truncate(file, size + BLOCK)
        overwrite(file, size, os.urandom(BLOCK))
        assert path.read_bytes() == LATER
        mounted.close()

    in_private_mounts(body)
