"""The host's file has no name, no pages that wait, and room only where something was written."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

import pytest

from enclave_cc.enclave.rootfs.device import host_file
from enclave_cc.enclave.rootfs.device.host_file import HostFile

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path):
    file = HostFile(tmp_path, SIZE)
    yield file
    file.close()


def page(data: bytes) -> memoryview:
    memory = memoryview(mmap.mmap(-1, 4096))
    memory[:] = data
    return memory


def allocated(file: HostFile) -> int:
    return os.fstat(file._fd).st_blocks * 512


def test_nothing_of_it_is_to_be_seen(tmp_path, file):
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(file._fd).st_nlink == 0
    assert os.fstat(file._fd).st_mode & 0o777 == 0o600


def test_file_systems_without_unnamed_files_will_do(tmp_path, monkeypatch):
    real = os.open

    def no_unnamed(path, flags, *rest):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no such thing")
        return real(path, flags, *rest)

    monkeypatch.setattr(host_file.os, "open", no_unnamed)
    file = HostFile(tmp_path, SIZE)
    test_nothing_of_it_is_to_be_seen(tmp_path, file)
    file.close()


def test_what_is_written_is_read_and_given_back(file):
    assert allocated(file) == 0
    file.write(8192, page(b"x" * 4096))
    found = page(bytes(4096))
    assert file.read_into(8192, found) == 4096
    assert bytes(found) == b"x" * 4096
    assert 0 < allocated(file) <= 65536
    file.punch(8192, 4096)
    assert file.read_into(8192, found) == 4096
    assert bytes(found) == bytes(4096)


def test_a_short_write_is_gone_on_with(file, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(host_file.os, "pwrite", lambda fd, data, offset: real(fd, data[:4096], offset))
    data = memoryview(mmap.mmap(-1, 3 * 4096))
    data[:] = b"y" * len(data)
    file.write(0, data)
    found = memoryview(mmap.mmap(-1, 3 * 4096))
    assert file.read_into(0, found) == len(found)
    assert found == data


def test_the_page_cache_is_bypassed_where_the_disk_can(tmp_path, file):
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct access")
    assert fcntl.fcntl(file._fd, fcntl.F_GETFL) & os.O_DIRECT


def test_file_systems_without_direct_access_will_do(tmp_path, monkeypatch):
    def refuse(fd, buffers, offset):
        raise OSError(errno.EINVAL, "no such thing")

    monkeypatch.setattr(host_file.os, "preadv", refuse)
    file = HostFile(tmp_path, SIZE)
    assert not fcntl.fcntl(file._fd, fcntl.F_GETFL) & os.O_DIRECT
    file.close()


def test_a_disk_that_fails_at_once_leaves_no_descriptor(tmp_path, monkeypatch):
    def refuse(fd, buffers, offset):
        raise OSError(errno.EIO, "failing")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(host_file.os, "preadv", refuse)
    with pytest.raises(OSError, match="failing"):
        HostFile(tmp_path, SIZE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
