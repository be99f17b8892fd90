"""What a dead server left is taken down, whatever it is called, and nothing else is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from enclave_cc.enclave.rootfs.server import leftovers
from enclave_cc.enclave.rootfs.server.leftovers import take_down

pytestmark = pytest.mark.root


def mount_memory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "test", path], check=True)


def mounted_below(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path)[:60] in line]


@pytest.mark.parametrize("name", ["plain", "with space", "tab\tand\nline", "back\\slash", "\u00e4"])
def test_mounts_within_mounts_go_whatever_their_names(tmp_path, in_private_mounts, name):
    work, root = tmp_path / name / "work", tmp_path / name / "root"

    def body():
        for path in (root, work / "a", work / "a" / "b", work / "c"):
            mount_memory(path)
            (path / "file").write_bytes(b"x")
        take_down(work, root)
        assert not mounted_below(tmp_path)
        assert not work.exists()
        assert list(root.iterdir()) == []

    in_private_mounts(body)


def test_what_is_in_use_is_taken_out_of_sight(tmp_path, in_private_mounts):
    def body():
        mount_memory(tmp_path / "work")
        with (tmp_path / "work/file").open("wb") as file:
            take_down(tmp_path / "work", None)
            file.write(b"still there")
        assert not (tmp_path / "work").exists()

    in_private_mounts(body)


def test_neighbours_stay(tmp_path, in_private_mounts):
    def body():
        for name in ("work", "work2", "other"):
            mount_memory(tmp_path / name)
        take_down(tmp_path / "work", tmp_path / "root")
        assert len(mounted_below(tmp_path)) == 2

    in_private_mounts(body)


def test_nothing_is_removed_below_what_stays_mounted(tmp_path, in_private_mounts, monkeypatch):
    def refuse(_point):
        raise OSError

    def body():
        mount_memory(tmp_path / "work" / "a")
        (tmp_path / "work/a/file").write_bytes(b"x")
        monkeypatch.setattr(leftovers, "unmount", refuse)
        take_down(tmp_path / "work", None)
        assert (tmp_path / "work/a/file").read_bytes() == b"x"

    in_private_mounts(body)
