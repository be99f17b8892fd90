"""
``delete``: containerd's broom after a shim that died; it has only files to go by.

Everything may be half made or gone. The boot program is on the shim's leash and usually ends
by itself; runc's containers, the pod's agent, mounts and directories do not.
"""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH109, PTH112, PTH123

from __future__ import annotations

import os
import time

from enclave_cc.formats.protobuf import encode
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.directories import remove_tree
from enclave_cc.node.shim.json_text import InvalidJson, loads
from enclave_cc.node.shim.linux import detach
from enclave_cc.node.shim.pod import SANDBOX_ID, PodDirectory
from enclave_cc.node.shim.runc import RuncFailed, read_pid
from enclave_cc.node.shim.settings import Settings
from enclave_cc.node.shim.task_messages import DELETE_RESPONSE, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from enclave_cc.node.shim.arguments import Arguments

_KILLED: Final = 137
_MAX_SPEC_BYTES: Final = 2 << 20
# containerd gives a sandbox one mount; a few more have been seen after failed attempts.
_MAX_MOUNTS: Final = 8


def delete(arguments: Arguments, config_path: str) -> int:
    """Remove what is left of a container, of a whole pod when it is the sandbox; print what became of it."""
    settings = Settings.read(config_path)
    namespace, container_id = arguments.require("namespace"), arguments.require("id")
    bundle = arguments.get("bundle") or os.getcwd()
    boot_record.end(f"{bundle}/{boot_record.NAME}")
    _runc_delete(settings, settings.containers_root(namespace), container_id)
    _unmount(f"{bundle}/rootfs")
    pod = PodDirectory(settings, container_id)
    if os.path.isdir(pod.root):
        _runc_delete(settings, settings.agents_root(namespace), f"{container_id}-agent")
        pod.remove()
    sandbox_id = _sandbox_id(bundle)
    if sandbox_id:
        remove_tree(PodDirectory(settings, sandbox_id).work(container_id))
    response = {"pid": _pid(bundle), "exit_status": _KILLED, "exited_at": timestamp(time.time_ns())}
    os.write(1, encode(DELETE_RESPONSE, response))
    return 0


def _runc_delete(settings: Settings, root: str, container_id: str) -> None:
    if not os.path.isdir(f"{root}/{container_id}"):
        return
    quiet = [(os.POSIX_SPAWN_OPEN, descriptor, "/dev/null", os.O_RDWR, 0) for descriptor in (1, 2)]
    command = [settings.runc, "--root", root, "delete", "--force", container_id]
    os.waitpid(os.posix_spawn(settings.runc, command, os.environ, file_actions=quiet), 0)


def _unmount(rootfs: str) -> None:
    """Take mounts away until there is none; asking first would miss bind mounts of the same device."""
    for _ in range(_MAX_MOUNTS):
        try:
            detach(rootfs)
        except OSError:
            return


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
