"""Memory for writes is bounded, charged to who writes, and never leaves for the disk."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.children import status_of
from tests.enclave.rootfs.memory_cgroup import memory_cgroup

from enclave_cc.enclave.rootfs.mounting.writable import memory
from enclave_cc.enclave.rootfs.mounting.writable.memory import mount_memory
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

pytestmark = pytest.mark.root

MIB = 1 << 20


def mount_options(target: Path) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line for line in lines if f" {target} " in line)


def write_until_refused(path: Path) -> tuple[int, int | None]:
    """Return how much was written, and why no more was."""
    written = 0
    with path.open("wb", buffering=0) as file:
        try:
            while written < 64 * MIB:
                written += file.write(bytes(MIB // 4))
        except OSError as error:
            return written, error.errno
    return written, None


def test_size_and_number_of_files_are_bounded(tmp_path, in_private_mounts):
    def body():
        with ExitStack() as cleanup:
            mount_memory(tmp_path, 16 * MIB, cleanup)
            options = mount_options(tmp_path)
            assert "size=16384k" in options
            assert "nr_inodes=4096" in options
        assert not os.path.ismount(tmp_path)

    in_private_mounts(body)


def test_it_is_not_swapped_where_the_kernel_can_promise_that(tmp_path, in_private_mounts):
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 4):
        pytest.skip("this kernel cannot keep tmpfs out of swap")

    def body():
        with ExitStack() as cleanup:
            mount_memory(tmp_path, MIB, cleanup)
            assert "noswap" in mount_options(tmp_path)

    in_private_mounts(body)


def test_kernels_that_cannot_promise_it_are_asked_for_less(tmp_path, monkeypatch):
    asked = []

    def old_kernel(source, target, kind, flags, options):
        asked.append(options)
        if "noswap" in options:
            raise OSError(errno.EINVAL, "unknown option")

    monkeypatch.setattr(memory, "mount", old_kernel)
    mount_memory(tmp_path, MIB, ExitStack())
    assert asked[0] == f"{asked[1]},noswap"


HEADING = "Filename Type Size Used Priority\n"


@pytest.mark.parametrize(
    ("swaps", "is_told"), [(HEADING, False), (f"{HEADING}/dev/sdb1 partition 1 0 -2\n", True), (None, True)]
)
def test_memory_that_may_be_swapped_is_told_of(tmp_path, monkeypatch, capsys, swaps, is_told):
    def old_kernel(source, target, kind, flags, options):
        if "noswap" in options:
            raise OSError(errno.EINVAL, "unknown option")

    monkeypatch.setattr(memory, "mount", old_kernel)
    monkeypatch.setattr(memory, "_SWAPS", tmp_path / "swaps")
    if swaps is not None:
        (tmp_path / "swaps").write_text(swaps)
    mount_memory(tmp_path, MIB, ExitStack())
    assert ("may swap" in capsys.readouterr().err) is is_told


def test_other_refusals_of_the_kernel_are_not_tried_again(tmp_path, monkeypatch):
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(memory, "mount", refuse)
    with pytest.raises(OSError, match="no"):
        mount_memory(tmp_path, MIB, ExitStack())
    assert len(asked) == 1


def test_a_workload_that_fills_it_is_told_that_there_is_no_space(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        mounted = sealed.open(tmp_path / "m", options=RootfsOptions(Writable.MEMORY, 4 * MIB))
        root = mounted.mountpoint
        written, why = write_until_refused(root / "large")
        assert (written <= 4 * MIB, why) == (True, errno.ENOSPC)
        (root / "large").unlink()
        (root / "small").write_bytes(b"there is room again")
        mounted.close()

    in_private_mounts(body)


def test_a_workload_that_makes_too_many_files_is_told_that_there_is_no_space(
    tmp_path, seal, archive, in_private_mounts
):
    sealed = seal(archive(a=b"1"))

    def body():
        mounted = sealed.open(tmp_path / "m", options=RootfsOptions(Writable.MEMORY, 4 * MIB))

        def make_many():
            for number in range(2000):
                (mounted.mountpoint / str(number)).touch()

        with pytest.raises(OSError, match="No space left") as caught:
            make_many()
        assert caught.value.errno == errno.ENOSPC
        mounted.close()

    in_private_mounts(body)


def test_what_is_written_is_charged_to_the_cgroup_of_who_writes(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        with memory_cgroup() as cgroup:
            mounted = sealed.open(tmp_path / "m")
            assert cgroup.usage < MIB

            def workload():
                cgroup.enter()
                (mounted.mountpoint / "data").write_bytes(os.urandom(24 * MIB))

            assert status_of(workload) == 0
            assert 24 * MIB <= cgroup.usage < 40 * MIB
            mounted.close()
            assert cgroup.usage < 4 * MIB

    in_private_mounts(body)


def test_the_limit_of_the_cgroup_holds_before_the_size(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        with memory_cgroup() as cgroup:
            cgroup.limit(24 * MIB)
            mounted = sealed.open(tmp_path / "m")

            def workload():
                cgroup.enter()
                write_until_refused(mounted.mountpoint / "data")

            assert status_of(workload) == -signal.SIGKILL
            assert (mounted.mountpoint / "a").read_bytes() == b"1"
            mounted.close()

    in_private_mounts(body)
