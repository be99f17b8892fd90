"""Dead scenes are removed, living ones are not, and no process is found by its name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.demo.scene.control_group import ControlGroup
from enclave_cc.demo.scene.paths import ScenePaths
from enclave_cc.demo.scene.sweep import SCENE_VARIABLE, SceneLock, leftovers, lock_file, processes_of, sweep


@pytest.fixture
def scene(short_tmp):
    paths = ScenePaths(short_tmp / "abcd")
    lock = SceneLock(paths)
    paths.create()
    yield paths, lock
    if lock_file(paths).exists():
        lock.release()


def test_a_scene_whose_owner_lives_is_left_alone(short_tmp, scene):
    paths, _ = scene
    assert sweep(short_tmp) == ()
    assert paths.root.is_dir()


def test_a_scene_whose_owner_was_killed_is_removed_with_its_record(short_tmp):
    paths = ScenePaths(short_tmp / "abcd")
    paths.create()
    lock_file(paths).touch()
    assert sweep(short_tmp) == (paths.root,)
    assert list(short_tmp.iterdir()) == []


def test_a_directory_without_a_record_is_not_ours_to_remove(short_tmp):
    (short_tmp / "abcd").mkdir()
    assert sweep(short_tmp) == ()
    assert (short_tmp / "abcd").is_dir()


def test_a_process_that_carries_the_scenes_mark_is_killed_and_others_are_not(short_tmp):
    paths = ScenePaths(short_tmp / "abcd")
    paths.create()
    lock_file(paths).touch()
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]

    def start(mark):
        child = subprocess.Popen(
            command, env={**os.environ, SCENE_VARIABLE: mark}, stdout=subprocess.PIPE, start_new_session=True
        )
        child.stdout.readline()
        return child

    ours, stranger = start(str(paths.root)), start(f"{paths.root}2")
    try:
        assert processes_of(paths) == (ours.pid,)
        # A child of this process has to be reaped by it before it is gone from the list.
        with subprocess.Popen([sys.executable, "-c", _SWEEP, str(short_tmp)]) as sweeper:
            assert ours.wait(20) == -9
            assert sweeper.wait(20) == 0
        assert stranger.poll() is None
    finally:
        for child in (ours, stranger):
            child.kill()
            child.wait()
            child.stdout.close()


_SWEEP = """
import sys
from pathlib import Path
from enclave_cc.demo.scene.sweep import sweep
sweep(Path(sys.argv[1]))
"""


def test_what_belongs_to_pods_is_counted_against_an_earlier_moment(scene):
    paths, _ = scene
    before = leftovers(paths)
    pod = paths.node / "pods" / "sandbox"
    (pod / "sealed" / "container").mkdir(parents=True)
    found = leftovers(paths).beyond(before)
    assert found.directories == (str(pod), str(pod / "sealed" / "container"))
    assert found
    assert not leftovers(paths).beyond(leftovers(paths))


def test_a_directory_whose_sockets_would_have_too_long_names_is_refused(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        ScenePaths.fresh(tmp_path / ("x" * 60))
    assert caught.value.code == "scene-path-too-long"


def test_membership_of_a_control_group_is_by_whole_path(tmp_path):
    group = ControlGroup("/enclave-cc-demo-ab")
    for name, line in {
        "in": "4:pids:/enclave-cc-demo-ab/node",
        "out": "0::/enclave-cc-demo-abc/pods",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup").write_text(f"9:cpu:/\n{line}\n")
    assert [group.holds(tmp_path / name) for name in ("in", "out", "gone")] == [True, False, False]


def test_the_scenes_own_groups_are_no_leftovers(tmp_path):
    for path in (
        "pids/enclave-cc-demo-ab/node",
        "pids/enclave-cc-demo-ab/pods/one",
        "cpu/enclave-cc-demo-ab/pods",
    ):
        (tmp_path / path).mkdir(parents=True)
    group = ControlGroup("/enclave-cc-demo-ab", mount=tmp_path)
    assert group.pod_directories() == (tmp_path / "pids/enclave-cc-demo-ab/pods/one",)
    group.remove()
    assert group.directories() == ()
