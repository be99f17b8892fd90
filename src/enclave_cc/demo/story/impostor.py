"""
A genuine boot program that was launched for one pod and asks another pod's agent for a key.

It does what a hostile node could: run real, measured code with a true identity, and lie about whose container
it is. The identity that the platform gave it names the pod, and that is what the agent compares.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.demo.cri.host_view import HostView
from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.scene.processes import listens_on_socket
from enclave_cc.formats.local_attestation import app_config_id
from enclave_cc.formats.messages.agent import AGENT_SERVICE
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.transport.ttrpc_client import TtrpcClient

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.demo.story.cast import Cast

_CONTAINER_ID: Final = "victim"
_OTHER_POD: Final = "another-pod"
_AGENT_WITHIN_S: Final = 30.0
_PREPARE_WITHIN_S: Final = 120.0
_ANSWER_WITHIN_S: Final = 60.0
_MAX_ANSWER_BYTES: Final = 1 << 16
_LIBRARIES: Final = "usr/lib/enclave-cc/lib"


def ask_for_foreign_key(cast: Cast, sandbox_id: str) -> HostView:
    """Let a key wait in the pod's agent, ask for it as another pod, and return what the host sees."""
    request_id = fresh_request_id()
    pod = cast.scene.paths.node / "pods" / sandbox_id
    agent_socket = pod / "run/agent.sock"
    wait_for("the agent's first answer", listens_on_socket(agent_socket), within_s=_AGENT_WITHIN_S)
    with TtrpcClient(str(agent_socket), timeout_s=_PREPARE_WITHIN_S) as agent:
        request = {"request_id": request_id, "container_id": _CONTAINER_ID, "image": cast.hello.reference}
        sealed = agent.call(AGENT_SERVICE, "Prepare", request)["sealed_image"]
        try:
            order = _order(cast, pod, sandbox_id, sealed, request_id)
            answer = _run_boot(cast, order)
        finally:
            agent.call(AGENT_SERVICE, "Discard", {"container_id": _CONTAINER_ID})
    error = answer.get("error")
    if not isinstance(error, dict):
        return HostView(f"the impostor was not refused: {answer}")
    words = {name: str(error.get(name, "")) for name in ("summary", "code", "stage", "remedy")}
    return HostView(request_id=request_id, **words)


def _order(cast: Cast, pod: Path, sandbox_id: str, sealed: str, request_id: str) -> dict[str, object]:
    """Write the order as the shim would, for a container that belongs to the other pod."""
    work = pod / "work" / _CONTAINER_ID
    return {
        "request_id": request_id,
        "agent_socket": str(pod / "run/agent.sock"),
        "platform_socket": str(cast.scene.paths.platform_socket),
        "pod_uid": sandbox_id,
        "container_id": _CONTAINER_ID,
        "sealed_image": str(pod / "sealed" / sealed),
        "initdata": str(pod / "run/initdata.toml"),
        "bundle": str(work),
        "rootfs": str(work / "rootfs"),
        "work": str(work),
        "runc": "/bin/false",
        "runc_root": str(work),
        "runc_log": str(work / "log.json"),
        "pid_file": str(work / "pid"),
    }


def _run_boot(cast: Cast, order: dict[str, object]) -> dict[str, object]:
    """Start the measured program in its own mount namespace, launch it as the other pod, give the order."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = _spawn(cast.scene.bundles.boot, theirs)
        try:
            _launch(cast, pid)
            ours.settimeout(_ANSWER_WITHIN_S)
            ours.sendall(json.dumps(order).encode() + b"\n")
            return _answer(ours)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _spawn(bundle: Path, control: socket.socket) -> int:
    description = json.loads((bundle / "bundle.json").read_bytes())
    root = str(bundle / "rootfs")
    program = [root + part if part.startswith("/") else part for part in description["args"]]
    loader = [root + description["loader"], "--library-path", f"{root}/{_LIBRARIES}"]
    command = ["unshare", "--mount", "--propagation", "private", *loader, *program]
    null = os.open(os.devnull, os.O_RDWR)
    try:
        files = [(os.POSIX_SPAWN_DUP2, control.fileno(), 3)]
        files += [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2, 4, 5, 6)]
        return os.posix_spawnp(
            "unshare", command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, file_actions=files
        )
    finally:
        os.close(null)


def _launch(cast: Cast, pid: int) -> None:
    request = {
        "pid": pid,
        "bundle": str(cast.scene.bundles.boot),
        "initdata": cast.initdata,
        "config_id": app_config_id(_OTHER_POD, _CONTAINER_ID),
    }
    with TtrpcClient(str(cast.scene.paths.platform_socket)) as platform:
        platform.call(PLATFORM_SERVICE, "Launch", request)


def _answer(connection: socket.socket) -> dict[str, object]:
    received = b""
    while b"\n" not in received and len(received) < _MAX_ANSWER_BYTES:
        data = connection.recv(_MAX_ANSWER_BYTES)
        if not data:
            raise UnavailableError(
                "demo-check-failed", "the boot program ended without an answer", stage=Stage.LAUNCH
            )
        received += data
    answer = json.loads(received.split(b"\n", 1)[0])
    return answer if isinstance(answer, dict) else {}
