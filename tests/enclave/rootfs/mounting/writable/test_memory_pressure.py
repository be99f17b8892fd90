"""
A workload that writes far more than its memory limit goes on, and reads what it wrote.

``make stress-rootfs`` does the same with more data, through ``ENCLAVE_CC_STRESS_MIB``.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from tests.children import start
from tests.enclave.rootfs.memory_cgroup import memory_cgroup
from tests.enclave.rootfs.mounting.writable.stress import Stress

from enclave_cc.enclave.rootfs.mounting.system_calls import abort_fuse
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = pytest.mark.root

MIB = 1 << 20
TOTAL_MIB = int(os.environ.get("ENCLAVE_CC_STRESS_MIB", "96"))
WRITERS = 3
LIMIT_BYTES = 32 * MIB
# Python, the server and the scratch's process need some themselves.
SHARED_LIMIT_BYTES = 96 * MIB
OPTIONS = RootfsOptions(Writable.SCRATCH, (2 * TOTAL_MIB + 256) * MIB)
CAP_SYS_RESOURCE = 1 << 24


def may_flush() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & CAP_SYS_RESOURCE)


def limit_s() -> float:
    return 60 + TOTAL_MIB


def assert_ends_well(pid: int, work: Path) -> None:
    """Wait for a process; if it hangs, let go of it, so that the machine does not hang with it."""
    watched = os.pidfd_open(pid)
    readable, _, _ = select.select([watched], [], [], limit_s())
    if not readable:
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            if " fuse.sealed-scratch " in line:
                abort_fuse(int(line.split()[2].partition(":")[2]), work / "control")
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert readable, "the workload hangs"
    assert os.waitstatus_to_exitcode(status) == 0


def work_hard(root: Path, enter) -> None:
    stress = [Stress(root / f"data{number}", TOTAL_MIB * MIB // WRITERS, number) for number in range(WRITERS)]

    def one(each: Stress) -> None:
        enter()
        each.run()

    children = [start(lambda each=each: one(each)) for each in stress]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * WRITERS


def test_a_small_memory_limit_slows_it_down_and_nothing_else(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        signal.alarm(0)
        with memory_cgroup() as cgroup:
            cgroup.limit(LIMIT_BYTES)
            findings = []
            mounted = sealed.open(tmp_path / "m", options=OPTIONS, on_poison=findings.append)
            child = start(lambda: work_hard(mounted.mountpoint, cgroup.enter))
            assert_ends_well(child, tmp_path)
            mounted.close()
            assert not findings

    in_private_mounts(body)


@pytest.mark.skipif(
    not may_flush(), reason="only with CAP_SYS_RESOURCE may a disk be served under its users' limit"
)
def test_even_who_serves_it_may_be_under_the_limit(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        signal.alarm(0)
        with memory_cgroup() as cgroup:
            cgroup.limit(SHARED_LIMIT_BYTES)

            def user():
                cgroup.enter()
                mounted = sealed.open(tmp_path / "m", options=OPTIONS)
                work_hard(mounted.mountpoint, lambda: None)
                mounted.close()

            assert_ends_well(start(user), tmp_path)

    in_private_mounts(body)
