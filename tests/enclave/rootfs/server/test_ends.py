"""However server or boot end, nobody hangs and nothing is left."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.enclave.rootfs.conftest import enter_private_mounts
from tests.enclave.rootfs.server.conftest import ends

from enclave_cc.core.errors import UnavailableError
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE
from enclave_cc.enclave.rootfs.server import client as client_module
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = pytest.mark.root
DEAD = (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def write_forever(root):
    """Write and wait for the disk until there is an error, which is status 7."""
    program = (
        'while dd if=/dev/urandom of="$0/new" bs=64k count=64 conv=fsync 2>/dev/null; do :; done; exit 7'
    )
    return subprocess.Popen(["/bin/sh", "-c", program, root])


def read_forever(root):
    """Read with a cold cache until there is an error, which is status 7."""
    program = 'while cat "$0/large" >/dev/null 2>&1; do echo 3 >/proc/sys/vm/drop_caches; done; exit 7'
    return subprocess.Popen(["/bin/sh", "-c", program, root])


@pytest.mark.parametrize("backend", PREFERENCE)
def test_killing_the_server_under_load_hangs_nobody(served, in_private_mounts, backend):
    def body():
        mine = served().prepare(backend).open()
        readers = [read_forever(mine.root) for _ in range(3)]
        time.sleep(0.3)
        os.kill(mine.process.pid, signal.SIGKILL)
        trouble = mine.server.trouble(5)
        assert isinstance(trouble, UnavailableError)
        assert trouble.code == "rootfs-server-ended"
        assert [finding.actual for finding in trouble.findings] == ["killed by SIGKILL"]
        assert [reader.wait(20) for reader in readers] == [7, 7, 7]
        mine.close()

    in_private_mounts(body)


def test_what_a_dead_server_does_not_answer_is_an_error(served, in_private_mounts):
    def body():
        mine = served().open()
        os.kill(mine.process.pid, signal.SIGKILL)
        assert mine.process.wait(5) == -signal.SIGKILL
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
            (mine.root / "large").read_bytes()
        assert caught.value.errno in DEAD
        mine.close()

    in_private_mounts(body)


def test_a_server_that_is_killed_before_its_order_is_noticed(served, in_private_mounts):
    def body():
        mine = served()
        os.kill(mine.process.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError) as caught, mine.server.explaining():
            mine.open()
        assert caught.value.code == "rootfs-server-ended"
        mine.close()

    in_private_mounts(body)


def test_a_server_that_is_killed_while_boot_waits_for_it_is_noticed(served, in_private_mounts):
    def body():
        mine = served()
        os.kill(mine.process.pid, signal.SIGSTOP)
        killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -9 {mine.process.pid}"])
        with pytest.raises(UnavailableError) as caught:
            mine.open()
        assert caught.value.code == "rootfs-server-ended"
        killer.wait(5)
        mine.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_server_that_answers_nothing_is_ended_by_force(served, in_private_mounts, monkeypatch, backend):
    monkeypatch.setattr(client_module, "_END_S", 0.3)

    def body():
        mine = served().prepare(backend).open()
        os.kill(mine.process.pid, signal.SIGSTOP)
        reader = subprocess.Popen(["cat", mine.root / "large"], stdout=-3, stderr=-3)
        time.sleep(0.2)
        assert reader.poll() is None
        mine.close()
        assert mine.process.wait(0) == -signal.SIGKILL
        assert reader.wait(10) == 1

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_the_server_ends_with_boot_and_readers_get_errors(served, in_private_mounts, backend):
    def body():
        ready, tell = os.pipe()
        boot = os.fork()
        if boot == 0:
            mine = served().prepare(backend).open()
            os.write(tell, f"{mine.process.pid} {mine.root}".encode())
            signal.pause()
        server, root = os.read(ready, 4096).decode().split()
        reader = read_forever(root)
        time.sleep(0.2)
        os.kill(boot, signal.SIGKILL)
        os.waitpid(boot, 0)
        assert ends(int(server))
        assert reader.wait(20) == 7

    in_private_mounts(body)


@pytest.fixture
def scratch():
    if not (shutil.which("mke2fs") or Path("/usr/sbin/mke2fs").exists()):
        pytest.skip("mke2fs is not installed")
    return RootfsOptions(Writable.SCRATCH, 64 << 20)


def kill(victims, boot, server):
    """End the two in every order; one that is stopped ends last."""
    order = {
        "boot": [boot],
        "both": [server, boot],
        "server first": [server, boot],
        "boot first": [boot, server],
    }
    if victims.endswith("first"):
        os.kill(order[victims][1], signal.SIGSTOP)
        os.kill(order[victims][0], signal.SIGKILL)
        time.sleep(0.2)
    for process in order[victims]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def loops():
    return {path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_writers_to_the_scratch_of_a_dead_server_get_errors(
    served, in_private_mounts, monkeypatch, scratch, number
):
    monkeypatch.setattr(client_module, "_END_S", 0.3)

    def body():
        mine = served().open(options=scratch)
        writer = write_forever(mine.root)
        time.sleep(0.3)
        assert writer.poll() is None
        os.kill(mine.process.pid, number)
        mine.close()
        assert writer.wait(20) == 7
        assert not [path for path in loops() if str(mine.work) in path]

    in_private_mounts(body)


@pytest.mark.parametrize("victims", ["boot", "both", "server first", "boot first"])
def test_the_scratch_of_a_dead_boot_goes_with_it(served, in_private_mounts, scratch, victims):
    def body():
        ready, tell = os.pipe()
        boot = os.fork()
        if boot == 0:
            enter_private_mounts()
            mine = served().open(options=scratch)
            # It is on its way to the disk when everything ends.
            (mine.root / "new").write_bytes(os.urandom(8 << 20))
            os.write(tell, f"{mine.process.pid} {mine.work}".encode())
            signal.pause()
        server, work = os.read(ready, 4096).decode().split()
        assert [path for path in loops() if work in path]
        kill(victims, boot, int(server))
        os.waitpid(boot, 0)
        assert ends(int(server))
        assert work not in Path("/proc/self/mountinfo").read_text()
        deadline = time.monotonic() + 5
        while [path for path in loops() if work in path]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    in_private_mounts(body)
