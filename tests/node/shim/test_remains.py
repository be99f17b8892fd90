"""What a dead pod left is found and removed, by whoever comes first; what belongs to a living one stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.sweep import sweep
from enclave_cc.node.shim.directories import remove_tree
from enclave_cc.node.shim.mounts import mounts_below
from enclave_cc.node.shim.pod_lock import hold, hold_dead


def config_of(node):
    """The daemon's view of the shim's node."""
    absent = {name: str(node.directory / name) for name in ("containerd_socket", "snapshot_root")}
    members = json.loads(node.config.read_text()) | absent
    return NodeConfig.parse(
        json.dumps(members | {"snapshot_socket": str(node.directory / "s.sock")}).encode()
    )


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Running:
    """A pod with one container, and the pids of all that it is made of."""

    def __init__(self, node):
        self.node = node
        self.shim = node.sandbox()
        request = node.workload("app1", "sleep 1000")
        self.workload = self.shim.call("Create", **request)["pid"]
        self.shim.call("Start", id="app1")
        self.boot = json.loads((node.pod / "work" / "app1" / "boot.pid").read_text())["pid"]
        self.agent = int((node.pod / "agent" / "agent.pid").read_text())
        self.pause = int(Path(node.bundle_of(node.sandbox_id), "init.pid").read_text())

    def pids(self):
        return (self.workload, self.boot, self.agent, self.pause)

    def is_gone(self):
        return (
            not any(map(alive, self.pids()))
            and not self.node.pod.exists()
            and not list(self.node.runc_root.glob("*/*"))
            and not mounts_below(str(self.node.directory))
            and not Path(self.shim.path).exists()
        )


@pytest.fixture
def running(node):
    return Running(node)


@pytest.mark.root
def test_a_pod_that_lives_is_left_alone(running):
    sweep(config_of(running.node))
    assert all(map(alive, running.pids()))
    assert running.shim.call("State", id="app1")["pid"] == running.workload
    assert (running.node.pod / "sealed" / "image-app1").exists()


@pytest.mark.root
@pytest.mark.parametrize("victims", [(), ("boot",), ("agent",), ("boot", "agent", "pause", "workload")])
def test_a_pod_whose_shim_was_killed_is_swept(running, eventually, victims):
    for pid in (running.shim.pid, *(getattr(running, victim) for victim in victims)):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(running.shim.pid))
    sweep(config_of(running.node))
    eventually(running.is_gone)


@pytest.mark.root
def test_a_boot_program_that_hangs_is_ended(running, eventually):
    os.kill(running.boot, signal.SIGSTOP)
    os.kill(running.shim.pid, signal.SIGKILL)
    eventually(lambda: not alive(running.shim.pid))
    sweep(config_of(running.node))
    eventually(running.is_gone)


@pytest.mark.root
def test_a_broom_that_fails_leaves_what_the_next_one_needs(running, eventually):
    os.kill(running.shim.pid, signal.SIGKILL)
    eventually(lambda: not alive(running.shim.pid))
    switch = running.node.runc_broken_on("delete")
    sweep(config_of(running.node))
    assert running.node.pod.exists()
    switch.unlink()
    sweep(config_of(running.node))
    eventually(running.is_gone)


@pytest.mark.root
def test_containerds_delete_after_a_sweep_finds_nothing_to_do(running, eventually):
    os.kill(running.shim.pid, signal.SIGKILL)
    eventually(lambda: not alive(running.shim.pid))
    sweep(config_of(running.node))
    for container_id in ("app1", running.node.sandbox_id):
        done = running.node.run("delete", container_id, "-bundle", running.node.bundle_of(container_id))
        assert done.returncode == 0, done.stderr
    eventually(running.is_gone)


@pytest.mark.root
def test_a_delete_in_another_namespace_leaves_a_living_pod_of_the_same_name_alone(running, tmp_path):
    node = running.node
    done = node.run("delete", node.sandbox_id, "-namespace", "other", "-bundle", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert all(map(alive, running.pids()))
    assert running.shim.call("State", id="app1")["pid"] == running.workload


@pytest.mark.root
def test_a_container_whose_agent_was_killed_leaves_no_sealed_image(running, eventually):
    os.kill(running.agent, signal.SIGKILL)
    eventually(lambda: "agent-ended" in running.node.shim_log())
    running.shim.call("Kill", id="app1", signal=9)
    running.shim.call("Wait", id="app1")
    running.shim.call("Delete", id="app1")
    assert list((running.node.pod / "sealed").iterdir()) == []
    assert list((running.node.pod / "work").iterdir()) == []


@pytest.mark.root
def test_a_container_whose_boot_program_was_killed_leaves_nothing(running):
    os.kill(running.boot, signal.SIGKILL)
    running.shim.call("Wait", id="app1")
    running.shim.call("Delete", id="app1")
    assert list((running.node.pod / "sealed").iterdir()) == []
    assert list((running.node.pod / "work").iterdir()) == []
    assert not (running.node.runc_root / "ecc-test" / "app1").exists()


def test_a_lock_is_held_once(tmp_path):
    held = hold(str(tmp_path / "pod"))
    assert hold_dead(str(tmp_path / "pod")) is None
    os.close(held)
    again = hold_dead(str(tmp_path / "pod"))
    assert again is not None
    os.close(again)


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    code = (
        "import sys, time; from enclave_cc.node.shim.pod_lock import hold\n"
        "lock = hold(sys.argv[1]); print('held', flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pod")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert hold_dead(str(tmp_path / "pod")) is None
        holder.kill()
    lock = hold_dead(str(tmp_path / "pod"))
    assert lock is not None
    os.close(lock)


def test_whoever_wants_a_directory_that_is_being_removed_gets_a_new_one(tmp_path):
    path = tmp_path / "pod"
    broom = hold(str(path))
    old = path.stat().st_ino
    got = []
    waiting = threading.Thread(target=lambda: got.append(hold(str(path))))
    waiting.start()
    # Another one of the same number could take its place if nobody held the first.
    path.rename(tmp_path / "old")
    os.close(broom)
    waiting.join(10)
    assert path.stat().st_ino != old
    assert os.fstat(got[0]).st_ino == path.stat().st_ino
    os.close(got[0])


@pytest.mark.parametrize("kind", ["absent", "file", "link"])
def test_what_is_no_directory_of_ours_cannot_be_locked(tmp_path, kind):
    path = tmp_path / "pod"
    if kind == "file":
        path.write_text("")
    elif kind == "link":
        path.symlink_to(tmp_path)
    assert hold_dead(str(path)) is None


@pytest.mark.root
def test_what_is_mounted_inside_of_a_tree_survives_its_removal(tmp_path):
    tree, inside = tmp_path / "tree", tmp_path / "tree" / "mounted"
    inside.mkdir(parents=True)
    (tree / "file").write_text("")
    subprocess.run(["mount", "-t", "tmpfs", "survives", inside], check=True)
    try:
        (inside / "kept").write_text("")
        remove_tree(str(tree))
        assert [path.name for path in tree.iterdir()] == ["mounted"]
        assert (inside / "kept").exists()
    finally:
        subprocess.run(["umount", inside], check=True)


def test_the_deepest_mount_comes_first_and_escapes_are_undone(tmp_path):
    table = tmp_path / "mountinfo"
    points = ("/s", "/s/a\\040b/c", "/s/a\\040b", "/sibling", "/s/d\\134040")
    table.write_text("".join(f"1 2 0:1 / {point} rw - tmpfs tmpfs rw\n" for point in points))
    assert mounts_below("/s", str(table)) == ["/s/a b/c", "/s/d\\040", "/s/a b", "/s"]
