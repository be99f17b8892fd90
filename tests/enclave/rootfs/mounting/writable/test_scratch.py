"""The encrypted scratch keeps what is written, tells the host nothing, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.enclave.rootfs.mounting.writable.test_memory import write_until_refused

from enclave_cc.core.errors import EnclaveCcError, UnavailableError
from enclave_cc.enclave.hardening import end_with_parent
from enclave_cc.enclave.rootfs.device.host_file import HostFile
from enclave_cc.enclave.rootfs.mounting.writable import ext4, scratch, scratch_server
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = pytest.mark.root

MIB = 1 << 20
# Found in the host's file, it would be plaintext.
MARK = b"what the workload wrote "


class Alarm:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


@pytest.fixture(autouse=True)
def _needs_mke2fs():
    if subprocess.run(["mke2fs", "-V"], capture_output=True, check=False).returncode:
        pytest.skip("mke2fs is not installed")


@pytest.fixture
def opened(tmp_path, seal, archive):
    """Mount an image with a scratch; to be called in a private mount namespace."""
    sealed = seal(archive(a=b"from the image"))

    def make(size: int = 64 * MIB, **changes):
        return sealed.open(tmp_path / "m", options=RootfsOptions(Writable.SCRATCH, size), **changes)

    return make


def host_files(work: Path) -> list[Path]:
    """Return the files below ``work`` that we and our children have open without a name, as paths to open."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = []
    for process in ("self", *children):
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                text = os.readlink(link)  # noqa: PTH115
                if text.startswith(str(work)) and text.endswith("(deleted)"):
                    found.append(link)
    return found


def own_mounts(base: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line]


def loop_devices(base: Path) -> list[str]:
    names = Path("/sys/block").glob("loop*/loop/backing_file")
    return [text for text in map(read_or_nothing, names) if str(base) in text]


def read_or_nothing(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def settle(path: Path) -> None:
    """Write a file to the disk, and let the kernel forget it."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_what_is_written_is_read_back_and_the_host_sees_none_of_it(tmp_path, opened, in_private_mounts):
    def body():
        mounted = opened()
        root = mounted.mountpoint
        data = MARK * 100_000
        (root / "b").write_bytes(data)
        (root / "a").write_bytes(b"changed")
        (root / "dir").mkdir()
        (root / "b").rename(root / "dir" / "c")
        settle(root / "dir" / "c")
        assert (root / "dir" / "c").read_bytes() == data
        (file,) = host_files(tmp_path)
        content = file.read_bytes()
        assert len(content.strip(b"\0")) > len(data)
        assert MARK not in content
        assert b"lost+found" not in content
        mounted.close()

    in_private_mounts(body)


def test_the_next_container_starts_from_the_image(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"from the image"))
    options = RootfsOptions(Writable.SCRATCH, 16 * MIB)

    def body():
        for name in ("first", "second"):
            mounted = sealed.open(tmp_path / name, options=options)
            assert [path.name for path in mounted.mountpoint.iterdir()] == ["a"]
            assert (mounted.mountpoint / "a").read_bytes() == b"from the image"
            (mounted.mountpoint / "a").write_bytes(b"changed")
            (mounted.mountpoint / "new").write_bytes(b"new")
            mounted.close()

    in_private_mounts(body)


def test_the_file_on_the_host_never_has_a_name(tmp_path, opened, in_private_mounts):
    def body():
        mounted = opened()
        (file,) = host_files(tmp_path)
        assert file.stat().st_nlink == 0
        names = {path.name for path in (tmp_path / "m" / "work").iterdir()}
        assert names <= {"image", "lower", "scratch", "scratch-image"}
        mounted.close()

    in_private_mounts(body)


def test_closing_leaves_nothing_behind(tmp_path, opened, in_private_mounts):
    def body():
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        mounted = opened()
        (mounted.mountpoint / "large").write_bytes(os.urandom(16 * MIB))
        assert loop_devices(tmp_path)
        mounted.close()
        mounted.close()
        assert not own_mounts(tmp_path)
        assert not loop_devices(tmp_path)
        assert not host_files(tmp_path)
        assert list((tmp_path / "m" / "work").iterdir()) == []
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
        assert threading.active_count() == 1

    in_private_mounts(body)


def test_a_workload_that_fills_it_is_told_that_there_is_no_space(opened, in_private_mounts):
    def body():
        alarm = Alarm()
        mounted = opened(16 * MIB, on_poison=alarm)
        root = mounted.mountpoint
        written, why = write_until_refused(root / "large")
        assert (8 * MIB < written < 16 * MIB, why) == (True, errno.ENOSPC)
        (root / "large").unlink()
        (root / "small").write_bytes(b"there is room again")
        settle(root / "small")
        assert (root / "small").read_bytes() == b"there is room again"
        assert not alarm.findings
        mounted.close()

    in_private_mounts(body)


def test_what_is_deleted_is_given_back_to_the_hosts_disk(tmp_path, opened, in_private_mounts):
    def body():
        mounted = opened()
        (file,) = host_files(tmp_path)
        empty = file.stat().st_blocks
        large = mounted.mountpoint / "large"
        large.write_bytes(os.urandom(16 * MIB))
        settle(large)
        assert (file.stat().st_blocks - empty) * 512 > 15 * MIB
        large.unlink()
        deadline = time.monotonic() + 10
        while (file.stat().st_blocks - empty) * 512 > 2 * MIB and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (file.stat().st_blocks - empty) * 512 < 2 * MIB
        mounted.close()

    in_private_mounts(body)


def change_every_block(data: bytes) -> bytes:
    changed = bytearray(data)
    for place in range(0, len(data), 4096):
        changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("act", ["flip", "replay", "cut"])
def test_a_host_that_changes_the_scratch_is_found_out(tmp_path, opened, in_private_mounts, act):
    def body():
        alarm = Alarm()
        mounted = opened(8 * MIB, on_poison=alarm)
        path = mounted.mountpoint / "b"
        path.write_bytes(b"first" * 100_000)
        settle(path)
        (file,) = host_files(tmp_path)
        earlier = file.read_bytes()
        with path.open("r+b") as again:
            again.write(b"later" * 100_000)
        settle(path)
        if act == "cut":
            os.truncate(file, 4096)
        else:
            file.write_bytes(earlier if act == "replay" else change_every_block(file.read_bytes()))
        with pytest.raises(OSError, match="Input/output error"):
            path.read_bytes()
        assert alarm.rang.wait(5)
        (finding,) = alarm.findings
        assert finding.rule == "rootfs.chunk"
        assert finding.actual.startswith("scratch: block ")
        mounted.close()
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


def test_a_host_without_room_makes_writes_fail_and_is_no_forger(tmp_path, opened, in_private_mounts):
    def body():
        alarm = Alarm()
        full = tmp_path / "full"
        write = HostFile.write

        def bounded(self, offset, data):
            if full.exists():
                raise OSError(errno.ENOSPC, "no room")
            write(self, offset, data)

        HostFile.write = bounded
        mounted = opened(on_poison=alarm)
        full.touch()
        fd = os.open(mounted.mountpoint / "large", os.O_CREAT | os.O_RDWR)
        os.write(fd, bytes(MIB))
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            os.fsync(fd)
        os.close(fd)
        assert not alarm.findings
        mounted.close()

    in_private_mounts(body)


def test_what_is_still_in_use_fails_after_closing(tmp_path, opened, in_private_mounts):
    def body():
        mounted = opened()
        path = mounted.mountpoint / "large"
        path.write_bytes(os.urandom(4 * MIB))
        settle(path)
        fd = os.open(path, os.O_RDWR)
        os.write(fd, b"not on the disk yet")
        mounted.close()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(fd, MIB, 2 * MIB)
        os.close(fd)
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


def refusal(opened, base: Path) -> EnclaveCcError:
    with pytest.raises(UnavailableError) as caught:
        opened()
    assert not own_mounts(base)
    assert not host_files(base)
    assert caught.value.code == "scratch-unavailable"
    return caught.value


def test_a_node_without_mke2fs_says_so(tmp_path, opened, in_private_mounts):
    def body():
        ext4._ENVIRONMENT["PATH"] = str(tmp_path)
        assert "mke2fs" in refusal(opened, tmp_path).detail

    in_private_mounts(body)


def test_the_words_of_a_failing_mke2fs_are_in_the_detail(tmp_path, opened, in_private_mounts):
    def body():
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "mke2fs").write_text("#!/bin/sh\necho no such feature >&2\nexit 1\n")
        (tmp_path / "bin" / "mke2fs").chmod(0o755)
        ext4._ENVIRONMENT["PATH"] = f"{tmp_path}/bin:/bin"
        assert "no such feature" in refusal(opened, tmp_path).detail

    in_private_mounts(body)


def test_a_mke2fs_that_never_ends_is_given_up(tmp_path, opened, in_private_mounts):
    def body():
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "mke2fs").write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / "bin" / "mke2fs").chmod(0o755)
        ext4._ENVIRONMENT["PATH"] = f"{tmp_path}/bin:/bin"
        ext4._TIMEOUT_S = 0.2
        assert "timed out" in refusal(opened, tmp_path).detail

    in_private_mounts(body)


def test_a_disk_with_little_room_bounds_the_size(tmp_path, opened, in_private_mounts, monkeypatch):
    class Usage:
        free = 32 * MIB

    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: Usage)

    def body():
        mounted = opened(1 << 40)
        status = os.statvfs(mounted.mountpoint)
        assert status.f_blocks * status.f_frsize < 32 * MIB
        mounted.close()

    in_private_mounts(body)


def test_a_disk_without_room_gives_no_scratch(tmp_path, opened, in_private_mounts, monkeypatch):
    class Usage:
        free = 4096

    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: Usage)
    in_private_mounts(lambda: refusal(opened, tmp_path))


def test_memory_that_cannot_be_locked_gives_no_scratch(tmp_path, opened, in_private_mounts, monkeypatch):
    def refuse():
        raise OSError(errno.EPERM, "not allowed")

    monkeypatch.setattr(scratch_server, "lock_memory", refuse)
    in_private_mounts(lambda: refusal(opened, tmp_path))


def write_for_ever(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            # Over and over at the same place, so that it never becomes full.
            os.pwrite(file.fileno(), bytes(MIB), 0)
            os.fsync(file.fileno())


def test_killing_who_serves_it_hangs_nobody(tmp_path, opened, in_private_mounts):
    def body():
        ready, told = os.pipe()
        parent = os.getpid()
        server = os.fork()
        if server == 0:
            end_with_parent(parent)
            opened()
            os.write(told, b"1")
            signal.pause()
        assert os.read(ready, 1) == b"1"
        path = tmp_path / "m" / "root" / "data"
        threading.Timer(0.3, os.kill, (server, signal.SIGKILL)).start()
        started = time.monotonic()
        with pytest.raises(OSError, match=r"Input/output|Read-only"):
            write_for_ever(path)
        os.waitpid(server, 0)
        assert time.monotonic() - started < 20

    in_private_mounts(body)
    assert not loop_devices(tmp_path)
