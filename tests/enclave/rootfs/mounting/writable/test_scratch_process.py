"""The process that serves a scratch is apart from who uses it; whoever of them ends first, nobody hangs."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.enclave.rootfs.conftest import CLONE_NEWNS

from enclave_cc.core.errors import UnavailableError
from enclave_cc.enclave.hardening import end_with_parent
from enclave_cc.enclave.rootfs.mounting.system_calls import leave_mount_namespace
from enclave_cc.enclave.rootfs.mounting.writable import scratch_process, scratch_server
from enclave_cc.enclave.rootfs.mounting.writable.scratch_process import ScratchProcess
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = pytest.mark.root

MIB = 1 << 20
OPTIONS = RootfsOptions(Writable.SCRATCH, 256 * MIB)


class Alarm:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


@pytest.fixture
def sealed(seal, archive):
    return seal(archive(a=b"from the image"))


def children(pid: int | str = "self") -> list[int]:
    thread = os.getpid() if pid == "self" else pid
    return [int(text) for text in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]


def run(*command):
    subprocess.run(command, check=True)


def enter_mounts(kind):
    """Enter a mount namespace as the shim does before it starts boot (slave), or as others might."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
    run("mount", f"--make-r{kind}", "/")


def leave_and_wait(told, end):
    leave_mount_namespace()
    os.write(told, b"%d" % os.getpid())
    os.read(end, 1)
    os._exit(0)


def test_it_holds_nothing_of_its_parents(tmp_path, sealed, in_private_mounts):
    def body():
        secret_file = os.open(sealed.directory / "manifest.sealed", os.O_RDONLY)
        mounted = sealed.open(tmp_path / "m", options=OPTIONS)
        (pid,) = children()
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
        assert not [link for link in links if link.startswith(str(sealed.directory))]
        assert sum("fuse" in link for link in links) == 2
        assert sum(link.startswith("socket:") for link in links) == 1
        assert Path(f"/proc/{pid}/comm").read_text() == "enclave-scratch\n"
        assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
        os.close(secret_file)
        mounted.close()

    in_private_mounts(body)


def test_it_holds_no_mount_of_the_container(tmp_path, sealed, in_private_mounts):
    def body():
        mounted = sealed.open(tmp_path / "m", options=OPTIONS)
        (pid,) = children()
        assert str(tmp_path) in Path("/proc/self/mountinfo").read_text()
        assert str(tmp_path) not in Path(f"/proc/{pid}/mountinfo").read_text()
        # And its parent cannot keep the connection alive when it ends.
        links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]  # noqa: PTH115
        assert not [link for link in links if link.startswith("/dev/loop")]
        mounted.close()

    in_private_mounts(body)


def test_one_with_several_threads_is_refused_because_they_would_hold_the_mounts(in_private_mounts):
    def body():
        wait = threading.Event()
        threading.Thread(target=wait.wait, daemon=True).start()
        with pytest.raises(OSError, match="several threads"):
            leave_mount_namespace()

    in_private_mounts(body)


@pytest.mark.parametrize("kind", ["private", "shared", "slave"])
def test_it_sees_no_new_mount_and_keeps_none_of_the_hosts_busy(tmp_path, in_private_mounts, kind):
    old, new = tmp_path / "old", tmp_path / "new"

    def body():
        run("mount", "--make-rshared", "/")
        for path in (old, new):
            path.mkdir()
        run("mount", "-t", "tmpfs", "host", str(old))
        ready, told = os.pipe()
        end, ended = os.pipe()
        boot = os.fork()
        if boot == 0:
            os.close(ended)
            enter_mounts(kind)
            if os.fork() == 0:
                leave_and_wait(told, end)
            os.read(end, 1)
            os._exit(0)
        pid = int(os.read(ready, 32))
        run("nsenter", "-t", str(boot), "-m", "mount", "-t", "tmpfs", "boot", str(new))
        run("umount", str(old))
        seen = Path(f"/proc/{pid}/mountinfo").read_text()
        assert str(new) not in seen
        assert (str(old) in seen) == (kind != "slave")
        os.close(ended)
        os.waitpid(boot, 0)

    in_private_mounts(body)


def test_its_memory_stays_where_it_is(tmp_path, sealed, in_private_mounts):
    def body():
        mounted = sealed.open(tmp_path / "m", options=OPTIONS)
        (pid,) = children()
        locked = next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmLck")
        )
        assert int(locked.split()[1]) > 1024
        mounted.close()
        assert not children()

    in_private_mounts(body)


def test_its_death_is_told_to_the_owner_and_hangs_nobody(tmp_path, sealed, in_private_mounts):
    def body():
        alarm = Alarm()
        mounted = sealed.open(tmp_path / "m", options=OPTIONS, on_poison=alarm)
        (mounted.mountpoint / "data").write_bytes(bytes(8 * MIB))
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        assert alarm.rang.wait(5)
        assert alarm.findings[0].actual == "scratch: the process that serves it ended"
        fd = os.open(mounted.mountpoint / "data", os.O_RDONLY)
        with pytest.raises(OSError, match=r"Input/output|Read-only"):
            os.fsync(fd)
        os.close(fd)
        started = time.monotonic()
        mounted.close()
        assert time.monotonic() - started < 10
        assert len(alarm.findings) == 1

    in_private_mounts(body)


@pytest.mark.parametrize("victims", ["user", "user and server", "server and user"])
def test_killing_who_is_last_in_the_namespace_hangs_nobody(tmp_path, sealed, victims):
    """Its mounts are taken down while it ends, and what was written must go somewhere or fail."""
    from tests.enclave.rootfs.conftest import enter_private_mounts  # noqa: PLC0415

    ready, told = os.pipe()
    parent = os.getpid()
    user = os.fork()
    if user == 0:
        end_with_parent(parent)
        enter_private_mounts()
        mounted = sealed.open(tmp_path / "m", options=OPTIONS)
        with (mounted.mountpoint / "data").open("wb") as file:
            for _ in range(64):
                file.write(os.urandom(MIB))
        os.write(told, b"1")
        signal.pause()
    assert os.read(ready, 1) == b"1"
    (server,) = children(user)
    pidfd = os.pidfd_open(server)
    for victim in victims.split(" and "):
        os.kill({"user": user, "server": server}[victim], signal.SIGKILL)
    watched = os.pidfd_open(user)
    readable, _, _ = select.select([watched], [], [], 30)
    assert readable
    os.waitpid(user, 0)
    readable, _, _ = select.select([pidfd], [], [], 10)
    assert readable


def test_one_that_cannot_make_a_scratch_says_why(tmp_path, monkeypatch):
    def refuse(directory, size):
        raise OSError(5, "the disk is in trouble")

    monkeypatch.setattr(scratch_server, "HostFile", refuse)
    process = ScratchProcess.start(tmp_path, MIB)
    with pytest.raises(UnavailableError) as caught:
        process.mount(tmp_path / "image", None)
    assert "the disk is in trouble" in caught.value.detail
    process.close()


def test_one_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch_server, "lock_memory", signal.pause)
    monkeypatch.setattr(scratch_process, "_READY_S", 0.2)
    monkeypatch.setattr(scratch_process, "_END_S", 0.2)
    process = ScratchProcess.start(tmp_path, MIB)
    with pytest.raises(OSError, match="timed out"):
        process.mount(tmp_path / "image", None)
    process.close()
    assert process.pid not in children()


def test_one_that_was_killed_early_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch_server, "lock_memory", lambda: os.kill(os.getpid(), signal.SIGKILL))
    process = ScratchProcess.start(tmp_path, MIB)
    with pytest.raises(UnavailableError) as caught:
        process.mount(tmp_path / "image", None)
    assert "ended" in caught.value.detail
    process.close()


def test_one_that_ends_when_it_should_serve_leaves_no_mount(tmp_path, in_private_mounts, monkeypatch):
    monkeypatch.setattr(scratch_server, "_obey", lambda connection, *rest: connection.recv(100))

    def body():
        image = tmp_path / "image"
        image.touch()
        process = ScratchProcess.start(tmp_path, MIB)
        with pytest.raises(OSError, match=r"not connected|aborted"):
            process.mount(image, None)
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
        process.close()

    in_private_mounts(body)


def test_a_refusal_is_told_once_and_everything_is_refused_from_then_on():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reporter = scratch_server.Reporter(theirs)
    reporter.check()
    reporter.poison("block 1 is bad")
    reporter.poison("block 2 is bad")
    with pytest.raises(scratch_server.DeviceRefusedError):
        reporter.check()
    theirs.close()
    assert ours.recv(100) == b"refused block 1 is bad"
    assert ours.recv(100) == b""
    ours.close()
