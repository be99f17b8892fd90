"""
``delete``: containerd's broom after a shim that died; it has only files to go by.

Everything may be half made or gone. The boot program is on the shim's leash and usually ends
by itself; runc's containers, the pod's agent, mounts and directories do not.
"""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH109, PTH123

from __future__ import annotations

import os
import time

from enclave_cc.formats.protobuf import encode
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.directories import remove_tree
from enclave_cc.node.shim.json_text import InvalidJson, loads
from enclave_cc.node.shim.pod import SANDBOX_ID, PodDirectory
from enclave_cc.node.shim.remains import delete_container, remove_if_dead, remove_traces
from enclave_cc.node.shim.runc import RuncFailed, read_pid
from enclave_cc.node.shim.settings import Settings
from enclave_cc.node.shim.task_messages import DELETE_RESPONSE, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from enclave_cc.node.shim.arguments import Arguments

_KILLED: Final = 137
_MAX_SPEC_BYTES: Final = 2 << 20


def delete(arguments: Arguments, config_path: str) -> int:
    """Remove what is left of a container, of a whole pod when it is the sandbox; print what became of it."""
    settings = Settings.read(config_path)
    namespace, container_id = arguments.require("namespace"), arguments.require("id")
    bundle = arguments.get("bundle") or os.getcwd()
    pid, sandbox_id = _pid(bundle), _sandbox_id(bundle)
    work = PodDirectory(settings, sandbox_id).work(container_id) if sandbox_id else ""
    if work:
        boot_record.end([f"{work}/{boot_record.NAME}"])
    delete_container(settings, settings.containers_root(namespace), container_id)
    # Another namespace may have a sandbox of this name, which lives.
    remove_if_dead(settings, PodDirectory(settings, container_id))
    if work:
        remove_tree(work)
    remove_traces(bundle)
    response = {"pid": pid, "exit_status": _KILLED, "exited_at": timestamp(time.time_ns())}
    os.write(1, encode(DELETE_RESPONSE, response))
    return 0


def _sandbox_id(bundle: str) -> str:
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            spec = loads(file.read(_MAX_SPEC_BYTES))
        sandbox_id = str(spec["annotations"][SANDBOX_ID])
    except (OSError, InvalidJson, KeyError, TypeError):
        return ""
    return "" if "/" in sandbox_id or sandbox_id.startswith(".") else sandbox_id


def _pid(bundle: str) -> int:
    try:
        return read_pid(f"{bundle}/init.pid")
    except RuncFailed:
        return 0
