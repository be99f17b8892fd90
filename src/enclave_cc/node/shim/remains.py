"""
What a pod without a shim left: processes, runc's containers, mounts, its socket, and its directory at last.

Everything may be half made or gone, and who removes it may be killed on the way: the directory, from which
all the rest is found, goes only when nothing else is left.
"""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH112, PTH123

from __future__ import annotations

import os

from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.address import remove_dead
from enclave_cc.node.shim.linux import detach
from enclave_cc.node.shim.mounts import detach_below
from enclave_cc.node.shim.pod_lock import hold_dead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from enclave_cc.node.shim.pod import PodDirectory
    from enclave_cc.node.shim.settings import Settings

# containerd gives a sandbox one mount; a few more have been seen after failed attempts.
_MAX_MOUNTS: Final = 8
_MAX_ADDRESS_BYTES: Final = 4096


def remove_if_dead(settings: Settings, pod: PodDirectory) -> bool | None:
    """Remove a pod that no shim holds; tell whether nothing is left, None where a shim lives or no pod is."""
    lock = hold_dead(pod.root)
    if lock is None:
        return None
    try:
        return _remove(settings, pod)
    finally:
        os.close(lock)


def remove_traces(bundle: str) -> None:
    """Take away what the shim put outside of the pod's directory: mounts on the bundle, and its socket."""
    _unmount(f"{bundle}/rootfs")
    try:
        with open(f"{bundle}/address", "rb") as file:
            address = file.read(_MAX_ADDRESS_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    remove_dead(address.removeprefix("unix://"))


def delete_container(settings: Settings, root: str, container_id: str) -> bool:
    """Let runc end and delete a container; tell whether it is gone."""
    state = f"{root}/{container_id}"
    if not os.path.isdir(state):
        return True
    quiet = [(os.POSIX_SPAWN_OPEN, descriptor, "/dev/null", os.O_RDWR, 0) for descriptor in (1, 2)]
    command = [settings.runc, "--root", root, "delete", "--force", container_id]
    os.waitpid(os.posix_spawn(settings.runc, command, os.environ, file_actions=quiet), 0)
    return not os.path.isdir(state)


def _remove(settings: Settings, pod: PodDirectory) -> bool:
    namespace, bundle = pod.owner()
    works = pod.works()
    # Their leash is cut: most have ended, and took their containers with them.
    boot_record.end([f"{work}/{boot_record.NAME}" for work in works.values()])
    gone = [delete_container(settings, settings.agents_root(namespace), f"{pod.sandbox_id}-agent")]
    gone += [
        delete_container(settings, settings.containers_root(namespace), container_id)
        for container_id in (*works, pod.sandbox_id)
    ]
    if bundle:
        remove_traces(bundle)
    detach_below(pod.root)
    if all(gone):
        pod.remove()
    return not os.path.isdir(pod.root)


def _unmount(rootfs: str) -> None:
    """Take mounts away until there is none; asking first would miss bind mounts of the same device."""
    for _ in range(_MAX_MOUNTS):
        try:
            detach(rootfs)
        except OSError:
            return
