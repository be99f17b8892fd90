"""The kernel's bound for pages that wait to be written to one disk: set, taken back, and only a wish."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from enclave_cc.enclave.rootfs.mounting.writable.dirty_pages import bound_dirty_pages
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

NAMES = ("max_bytes", "max_ratio", "strict_limit")


@pytest.fixture
def settings(tmp_path):
    directory = tmp_path / "7:3"
    directory.mkdir()
    for name, value in zip(NAMES, ("999999", "100", "0"), strict=True):
        (directory / name).write_text(value)
    return directory


def values(settings):
    return [(settings / name).read_text() for name in NAMES]


def test_the_bound_holds_until_it_is_taken_back(settings):
    with ExitStack() as cleanup:
        bound_dirty_pages(os.makedev(7, 3), cleanup, devices=settings.parent)
        assert values(settings) == [str(16 << 20), "100", "1"]
        # As the kernel does: the one is computed from the other.
        (settings / "max_ratio").write_text("0")
    assert values(settings)[1:] == ["100", "0"]


def test_a_kernel_without_the_bound_is_left_as_it_is(settings):
    (settings / "max_bytes").unlink()
    (settings / "max_bytes").mkdir()
    with ExitStack() as cleanup:
        bound_dirty_pages(os.makedev(7, 3), cleanup, devices=settings.parent)
        assert [(settings / name).read_text() for name in NAMES[1:]] == ["100", "0"]


@pytest.mark.root
def test_a_scratch_has_it_while_it_is_mounted(tmp_path, seal, archive, in_private_mounts):
    sealed = seal(archive(a=b"1"))

    def body():
        mounted = sealed.open(tmp_path / "m", options=RootfsOptions(Writable.SCRATCH, 64 << 20))
        device = (tmp_path / "m/work/scratch").stat().st_dev
        bound = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/strict_limit")
        is_known = bound.exists() and os.access(bound, os.W_OK)
        while_mounted = bound.read_text() if is_known else ""
        mounted.close()
        if is_known:
            assert (while_mounted, bound.read_text()) == ("1\n", "0\n")

    in_private_mounts(body)
