"""containerd's contract with the program, by running it as containerd does."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import enclave_cc
from enclave_cc.formats.protobuf import decode
from enclave_cc.node.shim import main
from enclave_cc.node.shim.launcher import write_shim_launcher
from enclave_cc.node.shim.task_messages import DELETE_RESPONSE, RUNTIME_INFO, TASK_V2
from enclave_cc.transport.ttrpc_client import TtrpcClient

SOURCES = Path(enclave_cc.__file__).parent.parent
HEAVY = (
    "asyncio",
    "logging",
    "subprocess",
    "dataclasses",
    "typing",
    "re",
    "json",
    "socket",
    "ctypes",
    "enum",
)


@pytest.fixture
def launcher(short_tmp):
    members = ("state", "runc_root", "agent_bundle", "boot_bundle", "platform_socket", "node_socket")
    paths = {name: str(short_tmp / name) for name in members} | {"runc": "/usr/sbin/runc"}
    (short_tmp / "node.json").write_text(json.dumps(paths))
    path = short_tmp / "containerd-shim-rune-v2"
    write_shim_launcher(path, short_tmp / "node.json", Path("/usr/bin/python3"), SOURCES)
    return path


def run(launcher, *words, cwd=None):
    return subprocess.run([launcher, *words], cwd=cwd, capture_output=True, timeout=20, check=False)


def test_the_version_is_the_packages(launcher):
    done = run(launcher, "-v")
    assert done.stdout.decode().split() == [f"{launcher}:", "Version:", main.VERSION]
    assert importlib.metadata.version("enclave-cc") == main.VERSION


def test_info_is_a_message(launcher):
    info = decode(RUNTIME_INFO, run(launcher, "-info").stdout)
    assert info["name"] == "io.containerd.rune.v2"
    assert info["version"]["version"] == main.VERSION


@pytest.mark.parametrize(
    "words",
    [(), ("fly",), ("start",), ("-namespace", "x", "start"), ("-what",), ("-namespace", "x", "delete")],
)
def test_a_call_that_makes_no_sense_fails_and_prints_nothing_else(launcher, short_tmp, words):
    done = run(launcher, *words, cwd=short_tmp)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr


def test_delete_of_what_never_was_says_killed(launcher, short_tmp):
    done = run(launcher, "-namespace", "x", "-id", "never", "-bundle", str(short_tmp), "delete")
    response = decode(DELETE_RESPONSE, done.stdout)
    assert (response["pid"], response["exit_status"]) == (0, 137)
    assert response["exited_at"]["seconds"] > 0


def test_a_launcher_needs_an_interpreter_that_the_kernel_accepts(short_tmp):
    with pytest.raises(ValueError, match="interpreter"):
        write_shim_launcher(short_tmp / "x", short_tmp, Path("/a b/python3"), SOURCES)


@pytest.mark.parametrize("module", ["start", "daemon", "cleanup"])
def test_the_shim_loads_no_heavy_module(module):
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r}); import enclave_cc.node.shim.{module};"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.root
def test_start_prints_the_address_of_a_socket_that_only_root_may_use(launcher, short_tmp):
    (short_tmp / "config.json").write_text("{}")
    words = ("-namespace", "ecc", "-address", str(short_tmp), "-id", f"c{os.getpid()}", "start")
    done = run(launcher, *words, cwd=short_tmp)
    assert done.stderr == b""
    path = Path(done.stdout.decode().removeprefix("unix://"))
    assert (short_tmp / "address").read_bytes() == done.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    again = run(launcher, *words, cwd=short_tmp)
    assert again.stdout == done.stdout
    pid = pid_behind(path)
    os.kill(pid, signal.SIGKILL)
    third = run(launcher, *words, cwd=short_tmp)
    assert third.stdout == done.stdout
    fresh = pid_behind(path)
    assert fresh != pid
    os.kill(fresh, signal.SIGTERM)


def pid_behind(path):
    with TtrpcClient(str(path)) as client:
        return client.call(TASK_V2, "Connect", {"id": "nobody"})["shim_pid"]
