"""Each process of a pod is killed in the middle of its work: the pod goes, and nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from enclave_cc.demo.cri.client import CriCallError
from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import acts
from enclave_cc.demo.story.cast import WRITABLE_WISHES
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.sweep import sweep
from enclave_cc.node.shim.pod_lock import hold_dead

# The first test waits for the whole scene, and on a fresh machine for the download of packages.
pytestmark = [pytest.mark.root, pytest.mark.scene, pytest.mark.timeout(600)]

VICTIMS = ("shim", "agent", "boot", "server", "scratch", "workload")


def field(pid, name):
    return re.search(rf"^{name}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def loops_of(pids):
    """Loop devices that a mount namespace of these processes has mounted, whatever they are called there."""
    tables = (Path(f"/proc/{pid}/mountinfo").read_text() for pid in pids)
    return {name for table in tables for name in re.findall(r" /dev/(loop\d+) ", table)}


def attached(loops):
    return [name for name in loops if Path(f"/sys/block/{name}/loop/backing_file").exists()]


class Processes:
    """The pids of one pod's parts."""

    def __init__(self, cast, pod):
        directory = cast.scene.paths.node / "pods" / pod.sandbox_id
        self.workload = int((Path(_bundle(cast, pod.container_id)) / "init.pid").read_text())
        self.agent = int((directory / "agent" / "agent.pid").read_text())
        boot = (directory / "work" / pod.container_id / "boot.pid").read_text()
        self.boot = int(re.search(r'"pid":\s*(\d+)', boot)[1])
        self.shim = int(field(self.boot, "PPid"))
        (self.server,) = children(self.boot)
        (self.scratch,) = children(self.server)

    def kill(self, victims):
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(getattr(self, victim), signal.SIGKILL)


def _bundle(cast, container_id):
    (bundle,) = cast.scene.paths.containerd.glob(f"state/io.containerd.runtime.v2.task/*/{container_id}")
    return bundle


@pytest.fixture
def before(cast):
    return leftovers(cast.scene.paths)


@pytest.fixture
def pod(cast, before):
    kubelet = cast.scene.kubelet()
    running = kubelet.run(cast.pod("killed", cast.hello, wishes=WRITABLE_WISHES))
    yield running
    with suppress(CriCallError):
        kubelet.remove_sandbox(running.sandbox_id)


@pytest.mark.parametrize("victims", [*((victim,) for victim in VICTIMS), VICTIMS], ids="-".join)
def test_whoever_is_killed_the_pod_is_removed_without_a_trace(cast, before, pod, victims):
    processes = Processes(cast, pod)
    loops = loops_of([processes.server])
    assert loops
    processes.kill(victims)
    cast.scene.kubelet().remove_sandbox(pod.sandbox_id)
    acts.wait_until_gone(cast, before)
    wait_for("the end of the loop devices", lambda: not attached(loops), within_s=10)


def test_without_containerd_the_daemons_sweep_removes_it(cast, before, pod):
    """Everything but containerd's own memory of the pod goes, which it has forgotten after a reboot."""
    processes = Processes(cast, pod)
    loops = loops_of([processes.server])
    directory = str(cast.scene.paths.node / "pods" / pod.sandbox_id)
    assert hold_dead(directory) is None
    processes.kill(["shim"])
    config = NodeConfig.read(cast.scene.paths.root / "node.json")
    wait_for("the end of the shim", lambda: not Path(f"/proc/{processes.shim}").exists(), within_s=10)
    sweep(config)
    cast.scene.kubelet().remove_sandbox(pod.sandbox_id)
    acts.wait_until_gone(cast, before)
    wait_for("the end of the loop devices", lambda: not attached(loops), within_s=10)
