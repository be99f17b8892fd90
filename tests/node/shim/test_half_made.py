"""What fails, is called off or dies, through a real shim and a real runc: nothing half made stays."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage, UnavailableError

pytestmark = pytest.mark.root


def is_gone(shim, container_id):
    try:
        shim.call("State", id=container_id)
    except EnclaveCcError as error:
        return "not created" in error.detail
    return False


def assert_nothing_is_left(node, shim, container_id):
    assert "not created" in shim.failing_call("State", id=container_id).detail
    assert not (node.runc_root / "ecc-test" / container_id).exists()
    assert not (node.pod / "work" / container_id).exists()
    assert node.simulators.discarded == [container_id]


@pytest.mark.parametrize(
    ("behaviour", "code", "summary"),
    [
        ("dies", "boot-failed", "the container's boot program ended early"),
        ("refuses", "sealed-manifest-refused", "it is not the image"),
    ],
)
def test_a_boot_program_that_fails_leaves_nothing(node, behaviour, code, summary):
    shim = node.sandbox()
    node.simulators.behaviour = behaviour
    request = node.workload("app1", "exit 0")
    error = shim.failing_call("Create", **request)
    assert error.code == code
    assert error.detail.startswith(f"enclave-cc: {summary} [code={code} stage=")
    assert_nothing_is_left(node, shim, "app1")
    node.simulators.behaviour = "works"
    shim.call("Create", **request)


def test_the_agents_refusal_reaches_containerd_word_by_word(node):
    shim = node.sandbox()
    node.simulators.prepare_error = RefusedError(
        "signature-refused", "the image is not signed", stage=Stage.POLICY
    )
    error = shim.failing_call("Create", **node.workload("app1", "exit 0"))
    request_id = node.simulators.prepared[0]["request_id"]
    assert error.detail.startswith(
        f"enclave-cc: the image is not signed [code=signature-refused stage=policy request={request_id}]; "
    )
    assert isinstance(error, RefusedError)
    assert_nothing_is_left(node, shim, "app1")


def test_a_platform_that_refuses_the_launch_leaves_nothing(node):
    shim = node.sandbox()
    node.simulators.launch_error = UnavailableError("epc-full", "no enclave memory", stage=Stage.PLATFORM)
    assert shim.failing_call("Create", **node.workload("app1", "exit 0")).code == "epc-full"
    assert_nothing_is_left(node, shim, "app1")


def test_other_calls_are_answered_while_the_agent_prepares(node):
    shim = node.sandbox()
    node.simulators.prepare_may_end.clear()
    creating = threading.Thread(target=shim.call, args=("Create",), kwargs=node.workload("app1", "exit 0"))
    creating.start()
    time.sleep(0.3)
    assert shim.call("State", id="app1")["pid"] == 0
    assert shim.call("Pids", id="app1")["processes"] == []
    assert shim.call("Pids", id=node.sandbox_id)["processes"]
    node.simulators.prepare_may_end.set()
    creating.join()
    assert shim.call("State", id="app1")["pid"] > 0


def test_the_callers_deadline_ends_a_creation(node, eventually):
    shim = node.sandbox()
    node.simulators.prepare_may_end.clear()
    started = time.monotonic()
    request = node.workload("app1", "exit 0")
    with pytest.raises(UnavailableError):
        shim.call("Create", **request, timeout_s=0.5)
    assert time.monotonic() - started < 3
    node.simulators.prepare_may_end.set()
    eventually(lambda: "create-failed" in node.shim_log())
    eventually(lambda: node.simulators.discarded == ["app1"])
    eventually(lambda: is_gone(shim, "app1"))


def test_a_sandbox_that_cannot_be_undone_does_not_keep_its_name(node, eventually):
    shim = node.start_sandbox_shim()
    switch = node.runc_broken_on("delete")
    node.simulators.launch_may_end.clear()
    request = {"bundle": node.bundle_of(node.sandbox_id), "rootfs": node.pause_mounts()}
    with pytest.raises(UnavailableError):
        shim.call("Create", id=node.sandbox_id, **request, timeout_s=0.5)
    node.simulators.launch_may_end.set()
    eventually(lambda: "undo-failed" in node.shim_log())
    eventually(lambda: is_gone(shim, node.sandbox_id))
    switch.unlink()


@pytest.mark.parametrize(("method", "more"), [("Delete", {}), ("Kill", {"signal": 9})])
def test_a_creation_can_be_called_off(node, method, more):
    shim = node.sandbox()
    node.simulators.prepare_may_end.clear()
    errors = []
    request = node.workload("app1", "exit 0")
    creating = threading.Thread(target=lambda: errors.append(shim.failing_call("Create", **request)))
    creating.start()
    time.sleep(0.3)
    if method == "Delete":
        shim.failing_call("Delete", id="app1", **more)
    else:
        shim.call("Kill", id="app1", **more)
    creating.join(5)
    assert errors[0].code == "create-cancelled"
    node.simulators.prepare_may_end.set()


def test_a_dead_agent_is_noticed(node, eventually):
    shim = node.sandbox()
    pid = int((node.pod / "agent" / "agent.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "agent-ended" in node.shim_log())
    error = shim.failing_call("Create", **node.workload("app1", "exit 0"))
    assert error.code == "agent-unavailable"
    assert "[code=agent-unavailable stage=launch request=" in error.detail


@pytest.mark.parametrize("value", ["%%%", "AAAA\x00", "H4sIAAAA", ""])
def test_undecodable_initdata_fails_the_sandbox_with_one_line(node, value):
    shim = node.start_sandbox_shim(**{"enclave-cc.dev__initdata": value or "QQ="})
    error = shim.failing_call("Create", id=node.sandbox_id, bundle=node.bundle_of(node.sandbox_id))
    assert error.code == "initdata-invalid"
    line = "enclave-cc: the pod's initdata annotation cannot be decoded [code=initdata-invalid stage=config "
    assert error.detail.startswith(f"{line}request=")
    assert not node.pod.exists()


def test_a_platform_that_is_away_fails_the_sandbox_and_leaves_nothing(node):
    shim = node.start_sandbox_shim()
    node.simulators.launch_error = UnavailableError("epc-full", "no enclave memory", stage=Stage.PLATFORM)
    request = {
        "id": node.sandbox_id,
        "bundle": node.bundle_of(node.sandbox_id),
        "rootfs": node.pause_mounts(),
    }
    assert shim.failing_call("Create", **request).code == "epc-full"
    assert not node.pod.exists()
    assert not list(node.runc_root.glob("*/*"))
    assert str(node.directory) not in Path("/proc/mounts").read_text()


def test_a_container_without_a_pod_is_refused(node):
    shim = node.start_sandbox_shim()
    assert shim.failing_call("Create", **node.workload("app1", "exit 0")).code == "pod-not-running"


def test_no_memory_image_is_written_to_the_host(node):
    shim = node.sandbox()
    error = shim.failing_call("Checkpoint", id=node.sandbox_id, path=str(node.directory / "image"))
    assert error.code == "checkpoint-refused"


def test_delete_cleans_up_after_a_killed_shim(node, eventually):
    shim = node.sandbox()
    request = node.workload("app1", "sleep 1000")
    pid = shim.call("Create", **request)["pid"]
    shim.call("Start", id="app1")
    boot = json.loads((node.pod / "work" / "app1" / "boot.pid").read_text())["pid"]
    agent = int((node.pod / "agent" / "agent.pid").read_text())
    os.kill(shim.pid, signal.SIGKILL)
    for container_id in ("app1", node.sandbox_id):
        done = node.run("delete", container_id, "-bundle", node.bundle_of(container_id))
        assert done.returncode == 0, done.stderr
        assert done.stdout
    for process in (pid, boot, agent):
        eventually(lambda process=process: not alive(process))
    assert not node.pod.exists()
    assert not list(node.runc_root.glob("*/*"))
    assert str(node.directory) not in Path("/proc/mounts").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_descriptors_do_not_pile_up(node, eventually):
    shim = node.sandbox()

    def descriptors() -> int:
        return len(list(Path(f"/proc/{shim.pid}/fd").iterdir()))

    def once(number: int) -> None:
        container_id = f"app{number}"
        shim.call("Create", **node.workload(container_id, "exit 0"))
        shim.call("Start", id=container_id)
        shim.call("Wait", id=container_id)
        shim.call("Delete", id=container_id)

    once(1)
    first = descriptors()
    once(2)
    once(3)
    # The shim may not have noticed the end of the last call's connection yet.
    eventually(lambda: descriptors() <= first)
