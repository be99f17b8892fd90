"""A node after a reboot: nobody holds a lock, pids mean other processes, and the disk is as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.sweep import sweep
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.pod import PodDirectory
from enclave_cc.node.shim.pod_lock import hold
from enclave_cc.node.shim.settings import Settings


@pytest.fixture
def config(tmp_path):
    names = ("state", "runc_root", "agent_bundle", "boot_bundle", "snapshot_root", "platform_socket")
    more = ("node_socket", "containerd_socket", "snapshot_socket")
    members = {name: str(tmp_path / name) for name in (*names, *more)}
    return NodeConfig.parse(json.dumps({**members, "runc": "/usr/sbin/runc"}).encode())


@pytest.fixture
def innocent():
    """A process that the machine started after the reboot, under a pid that a note names."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as process:
        yield process
        process.kill()


def left_by_a_pod(config, name, pid):
    """Write what a pod has on disk when the power goes."""
    pod = PodDirectory(Settings.of(config), name)
    pod.make({}, b"initdata", namespace="k8s.io", bundle=str(config.state / "no-bundle"))
    os.close(pod._lock)
    sealed = config.state / "pods" / name / "sealed" / ("0" * 32)
    sealed.mkdir()
    (sealed / "manifest.sealed").write_bytes(b"x" * 1000)
    work = config.state / "pods" / name / "work" / "app1"
    (work / "lower").mkdir(parents=True)
    (work / "image").touch()
    boot_record.write(str(work / "boot.pid"), pid)
    note = json.loads((work / "boot.pid").read_text())
    (work / "boot.pid").write_text(json.dumps({**note, "machine_boot": "the one before"}))
    return config.state / "pods" / name


def test_after_a_reboot_nothing_of_the_pods_is_left_and_nobody_is_killed(config, innocent):
    for name in ("pod1", "pod2"):
        left_by_a_pod(config, name, innocent.pid)
    sweep(config)
    assert list((config.state / "pods").iterdir()) == []
    assert innocent.poll() is None


def test_a_pod_that_started_since_stays(config, innocent):
    dead, living = (left_by_a_pod(config, name, innocent.pid) for name in ("dead", "living"))
    lock = hold(str(living))
    sweep(config)
    os.close(lock)
    assert not dead.exists()
    assert (living / "sealed" / ("0" * 32) / "manifest.sealed").exists()


def test_half_made_pods_and_strange_entries_do_not_stop_it(config, innocent):
    pods = config.state / "pods"
    (pods / "half-made").mkdir(parents=True)
    (pods / "damaged").mkdir()
    (pods / "damaged" / "owner.json").write_text('{"namespace": [')
    (pods / "file").write_text("not ours")
    (pods / "link").symlink_to(config.state)
    left_by_a_pod(config, "pod1", innocent.pid)
    sweep(config)
    assert sorted(path.name for path in pods.iterdir()) == ["file", "link"]


def test_a_node_without_pods_is_swept_too(config):
    sweep(config)
    assert not config.state.exists()
