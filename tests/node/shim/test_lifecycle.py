"""A pod's life through a real shim and a real runc."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage, UnavailableError
from enclave_cc.node.shim.enclave import app_config_id
from enclave_cc.node.shim.task_messages import RUNNING, STOPPED, TASK_EXIT

pytestmark = pytest.mark.root


def test_a_pod_lives_and_nothing_stays(node, read_all, eventually):
    shim = node.sandbox()
    request = node.workload("app1", "echo to stdout; echo to stderr >&2; exit 7")
    out, err = read_all(request["stdout"]), read_all(request["stderr"])
    pid = shim.call("Create", **request)["pid"]
    assert pid > 0
    assert shim.call("Start", id="app1")["pid"] == pid
    assert shim.call("Wait", id="app1")["exit_status"] == 7
    assert shim.call("State", id="app1")["status"] == STOPPED
    assert out() == b"to stdout\n"
    assert err() == b"to stderr\n"
    assert shim.call("Delete", id="app1")["exit_status"] == 7
    shim.call("Kill", id=node.sandbox_id, signal=9)
    shim.call("Wait", id=node.sandbox_id)
    shim.call("Delete", id=node.sandbox_id)
    shim.call("Shutdown", id=node.sandbox_id)
    eventually(lambda: not Path(f"/proc/{shim.pid}").exists() or not Path(shim.path).exists())
    assert not node.pod.exists()
    assert not list(node.runc_root.glob("*/*"))
    assert str(node.directory) not in Path("/proc/mounts").read_text()
    assert node.simulators.discarded == ["app1"]


def test_the_agent_and_the_app_are_measured_with_the_pods_initdata(node):
    text = 'version = "0.1.0"\n'
    shim = node.sandbox(**{"enclave-cc.dev__initdata": text})
    shim.call("Create", **node.workload("app1", "exit 0"))
    agent, app = node.simulators.launches
    assert agent["bundle"] == str(node.directory / "agent")
    assert app["bundle"] == str(node.directory / "boot")
    assert agent["initdata"] == app["initdata"] == text.encode()
    assert agent["config_id"] == b""
    assert app["config_id"] == app_config_id(node.sandbox_id, "app1")
    assert agent["pid"] != app["pid"]
    assert (node.pod / "run" / "initdata.toml").read_text() == text


def test_the_agent_gets_the_spec_and_the_hints(node):
    shim = node.sandbox()
    request = node.workload("app1", "exit 0")
    shim.call("Create", **request)
    (prepared,) = node.simulators.prepared
    assert prepared["image"] == "registry.example/app:1"
    assert prepared["manifest_digest"].startswith("sha256:")
    assert len(prepared["request_id"]) == 26
    assert json.loads(prepared["spec"]) == json.loads(Path(request["bundle"], "config.json").read_text())


def test_the_agents_output_is_kept_beside_the_pod(node, eventually):
    node.sandbox()
    eventually(lambda: "agent speaks" in (node.pod / "agent.log").read_text())


def test_the_agents_bundle_is_not_changed_by_running_it(node):
    before = sorted(node.directory.glob("agent/**/*"))
    node.sandbox()
    assert sorted(node.directory.glob("agent/**/*")) == before


def test_the_root_file_system_is_visible_nowhere_else_on_the_host(node):
    shim = node.sandbox()
    request = node.workload("app1", "sleep 100")
    shim.call("Create", **request)
    shim.call("Start", id="app1")
    assert not list(Path(request["bundle"], "rootfs").iterdir())


def test_events_come_in_order(node, eventually, decoded):
    shim = node.sandbox()
    shim.call("Create", **node.workload("app1", "exit 3"))
    shim.call("Start", id="app1")
    shim.call("Wait", id="app1")
    shim.call("Delete", id="app1")
    topics = node.simulators.topics
    expected = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
    ]
    eventually(lambda: topics() == expected)
    exit_event = decoded(TASK_EXIT, node.simulators.events[4][1])
    assert (exit_event["container_id"], exit_event["id"], exit_event["exit_status"]) == ("app1", "app1", 3)


def test_input_reaches_the_container_until_it_is_closed(node, read_all):
    shim = node.sandbox()
    request = node.workload("app1", "while read line; do echo got $line; done; echo end")
    out = read_all(request["stdout"])
    shim.call("Create", **request)
    shim.call("Start", id="app1")
    with Path(request["stdin"]).open("wb") as pipe:
        pipe.write(b"one\n")
    time.sleep(0.2)
    assert shim.call("State", id="app1")["status"] == RUNNING
    shim.call("CloseIO", id="app1", stdin=True)
    assert shim.call("Wait", id="app1")["exit_status"] == 0
    assert out() == b"got one\nend\n"


def test_a_terminal_works_both_ways(node, read_all):
    shim = node.sandbox()
    request = node.workload("app1", "stty size; read line; echo got $line", terminal=True)
    (Path(request["bundle"]) / "x").touch()
    out = read_all(request["stdout"])
    shim.call("Create", **request)
    shim.call("ResizePty", id="app1", width=90, height=30)
    shim.call("Start", id="app1")
    with Path(request["stdin"]).open("wb") as pipe:
        pipe.write(b"hello\n")
    assert shim.call("Wait", id="app1")["exit_status"] == 0
    shim.call("Delete", id="app1")
    assert b"got hello" in out()


def test_kill_ends_the_container_with_the_signals_status(node):
    shim = node.sandbox()
    shim.call("Create", **node.workload("app1", "sleep 1000"))
    shim.call("Start", id="app1")
    shim.call("Kill", id="app1", signal=9)
    assert shim.call("Wait", id="app1")["exit_status"] == 137
    assert "already finished" in shim.failing_call("Kill", id="app1", signal=9).detail


def test_a_poisoned_store_kills_the_container(node):
    shim = node.sandbox()
    node.simulators.behaviour = "poisoned"
    shim.call("Create", **node.workload("app1", "sleep 1000"))
    assert shim.call("Wait", id="app1")["exit_status"] == 137
    assert "sealed-chunk-refused" in node.shim_log()


def test_a_container_does_not_outlive_its_boot_program(node):
    shim = node.sandbox()
    request = node.workload("app1", "sleep 1000")
    shim.call("Create", **request)
    shim.call("Start", id="app1")
    os.kill(json.loads(Path(request["bundle"], "boot.pid").read_text())["pid"], signal.SIGKILL)
    assert shim.call("Wait", id="app1")["exit_status"] == 137
    shim.call("Delete", id="app1")


def test_exec_runs_what_the_agent_returned(node, read_all):
    shim = node.sandbox()
    shim.call("Create", **node.workload("app1", "sleep 1000"))
    shim.call("Start", id="app1")
    process = {"args": ["/bin/sh", "-c", "echo inside"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    pipe = str(node.directory / "exec-out")
    os.mkfifo(pipe)
    out = read_all(pipe)
    spec = {"type_url": "x", "value": json.dumps(process).encode()}
    shim.call("Exec", id="app1", exec_id="e1", stdout=pipe, spec=spec)
    assert shim.call("Start", id="app1", exec_id="e1")["pid"] > 0
    assert shim.call("Wait", id="app1", exec_id="e1")["exit_status"] == 0
    assert shim.call("Delete", id="app1", exec_id="e1")["exit_status"] == 0
    assert out() == b"inside\n"
    assert json.loads(node.simulators.executed[0]["process"]) == process


def test_an_exec_that_the_owner_forbids_never_starts(node):
    shim = node.sandbox()
    shim.call("Create", **node.workload("app1", "sleep 1000"))
    shim.call("Start", id="app1")
    node.simulators.exec_error = RefusedError("exec-refused", "the owner allows no exec", stage=Stage.EXEC)
    error = shim.failing_call("Exec", id="app1", exec_id="e1", spec={"type_url": "x", "value": b"{}"})
    assert error.code == "exec-refused"
    assert "enclave-cc: the owner allows no exec [code=exec-refused stage=exec request=" in error.detail
    assert "does not exist" in shim.failing_call("Start", id="app1", exec_id="e1").detail


def test_pids_stats_and_update_describe_the_container(node):
    shim = node.sandbox()
    pid = shim.call("Create", **node.workload("app1", "sleep 1000"))["pid"]
    shim.call("Start", id="app1")
    assert pid in [process["pid"] for process in shim.call("Pids", id="app1")["processes"]]
    assert shim.call("Stats", id="app1")["stats"]["type_url"].startswith("io.containerd.cgroups.v")
    resources = json.dumps({"cpu": {"shares": 512}}).encode()
    shim.call("Update", id="app1", resources={"type_url": "x", "value": resources})


def test_a_second_start_of_the_pod_joins_the_first_shim(node):
    shim = node.sandbox()
    node.workload("app1", "exit 0")
    done = node.run("start", "app1")
    assert done.stdout.decode() == f"unix://{shim.path}"
    assert (node.directory / "bundles" / "app1" / "address").read_text() == f"unix://{shim.path}"


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
    boot = json.loads(Path(request["bundle"], "boot.pid").read_text())["pid"]
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


def test_descriptors_do_not_pile_up(node):
    shim = node.sandbox()

    def once(number: int) -> int:
        container_id = f"app{number}"
        shim.call("Create", **node.workload(container_id, "exit 0"))
        shim.call("Start", id=container_id)
        shim.call("Wait", id=container_id)
        shim.call("Delete", id=container_id)
        return len(list(Path(f"/proc/{shim.pid}/fd").iterdir()))

    first = once(1)
    once(2)
    assert once(3) <= first
