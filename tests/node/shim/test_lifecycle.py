"""A pod's life through a real shim and a real runc."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from enclave_cc.core.errors import RefusedError, Stage
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
    os.kill(json.loads((node.pod / "work" / "app1" / "boot.pid").read_text())["pid"], signal.SIGKILL)
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
