"""What the figures of the root file system have to reach follows from the figures alone."""

from __future__ import annotations

from bench.report import Row
from bench.rootfs_goals import goals
from bench.rootfs_plots import plots
from bench.rootfs_rounds import FIRST_EXEC, MEMORY, SEAL, Measure, State


def lines(figures):
    return [goal.line() for goal in goals(figures)]


def test_ours_must_be_ahead_of_gocryptfs_in_every_row_that_it_has():
    figures = {
        SEAL: {"ours": [1], "gocryptfs": [10], "ext4": [5]},
        Measure("read", State.COLD): {"ours": [3]},
    }
    assert lines(figures) == ["goal rootfs-seal-over-gocryptfs 0.1 1 met"]


def test_pairs_are_compared_before_the_median_is_taken():
    figures = {SEAL: {"ours": [1, 8, 30], "gocryptfs": [2, 10, 10]}}
    assert lines(figures) == ["goal rootfs-seal-over-gocryptfs 0.8 1 met"]


def test_warm_reads_must_be_close_to_ext4_with_and_without_an_overlay():
    figures = {Measure("find", State.WARM): {"ours": [10], "ext4": [8], "ext4 + overlay": [12]}}
    assert lines(figures) == [
        "goal rootfs-find-warm-of-native 0.8 0.9 missed",
        "goal rootfs-find-warm-of-native-in-overlay 1.2 0.9 met",
    ]


def test_tar_from_the_disk_must_be_ahead_of_ext4():
    figures = {Measure("tar", State.DISK_COLD): {"ours": [10], "ext4": [20]}}
    assert lines(figures) == ["goal rootfs-tar-disk-cold-over-native 0.5 1 met"]


def test_the_first_exec_is_judged_by_its_median_and_memory_by_its_worst():
    figures = {FIRST_EXEC: {"ours": [30, 35, 90]}, MEMORY: {"ours": [20, 26]}}
    assert lines(figures) == ["goal rootfs-first-exec-ms 35 40 met", "goal rootfs-server-mb 26 25 missed"]


def test_each_state_has_a_picture_of_its_own():
    names = ("seal: ours", "tar, cold: ours", "tar, warm: ours", "tar, disk-cold: ours")
    found = plots([Row(name, "ms", 1, 1, 1, 1) for name in names])
    assert {name: ">tar<" in svg for name, svg in found.items()} == {
        "rootfs-once.svg": False,
        "rootfs-cold.svg": True,
        "rootfs-warm.svg": True,
        "rootfs-disk-cold.svg": True,
    }
