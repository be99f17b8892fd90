"""A pod's directory on this node: what the agent enclave is given, and what the shim keeps beside it."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os

from enclave_cc.node.shim.directories import make_private, remove_tree, write_private
from enclave_cc.node.shim.json_text import InvalidJson, dumps, loads
from enclave_cc.node.shim.pod_lock import hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from enclave_cc.node.shim.settings import Settings

_POD_NAME: Final = "io.kubernetes.cri.sandbox-name"
_POD_NAMESPACE: Final = "io.kubernetes.cri.sandbox-namespace"
SANDBOX_ID: Final = "io.kubernetes.cri.sandbox-id"
CONTAINER_TYPE: Final = "io.kubernetes.cri.container-type"
_MAX_OWNER_BYTES: Final = 1 << 14
_NO_LOCK: Final = -1


class PodDirectory:
    """``<state>/pods/<sandbox id>`` with ``run``, ``sealed``, ``agent`` and ``work`` below."""

    def __init__(self, settings: Settings, sandbox_id: str) -> None:
        self.sandbox_id = sandbox_id
        self.root = settings.pod(sandbox_id)
        self.run = f"{self.root}/run"
        self.sealed = f"{self.root}/sealed"
        self.agent = f"{self.root}/agent"
        self.agent_socket = f"{self.run}/agent.sock"
        self.agent_log = f"{self.root}/agent.log"
        self._owner = f"{self.root}/owner.json"
        self._works = f"{self.root}/work"
        self._lock = _NO_LOCK

    def make(self, annotations: Mapping[str, str], initdata: bytes, *, namespace: str, bundle: str) -> None:
        """
        Make it anew, and hold it for as long as this process lives; nothing of an earlier pod survives.

        containerd's namespace and the sandbox's bundle are noted for whoever removes it without its shim.
        """
        remove_tree(self.root)
        self._lock = hold(self.root)
        write_private(self._owner, dumps({"namespace": namespace, "bundle": bundle}))
        for path in (self.run, self.sealed, self.agent, self._works):
            make_private(path)
        if initdata:
            write_private(f"{self.run}/initdata.toml", initdata)
        # The sandbox id names this instance of the pod; a Kubernetes uid survives its restarts.
        pod = {
            "pod_uid": self.sandbox_id,
            "sandbox_id": self.sandbox_id,
            "namespace": annotations.get(_POD_NAMESPACE, ""),
            "name": annotations.get(_POD_NAME, ""),
        }
        write_private(f"{self.run}/pod.json", dumps(pod))

    def work(self, container_id: str) -> str:
        """Return the private directory of one container's boot program."""
        return f"{self._works}/{container_id}"

    def works(self) -> dict[str, str]:
        """Find the private directories that are there, by container id."""
        try:
            return {name: self.work(name) for name in os.listdir(self._works)}
        except OSError:
            return {}

    def owner(self) -> tuple[str, str]:
        """Read the noted namespace and bundle; both are empty where nothing was noted."""
        try:
            with open(self._owner, "rb") as file:
                note = loads(file.read(_MAX_OWNER_BYTES))
            return str(note["namespace"]), str(note["bundle"])
        except (OSError, InvalidJson, KeyError, TypeError):
            return "", ""

    def remove(self) -> None:
        """Remove everything, sealed images included, and let go of it."""
        remove_tree(self.root)
        if self._lock != _NO_LOCK:
            os.close(self._lock)
            self._lock = _NO_LOCK
