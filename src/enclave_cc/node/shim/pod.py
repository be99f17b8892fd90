"""A pod's directory on this node: what the agent enclave is given, and what the shim keeps beside it."""

from __future__ import annotations

from enclave_cc.node.shim.directories import make_private, remove_tree, write_private
from enclave_cc.node.shim.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from enclave_cc.node.shim.settings import Settings

_POD_NAME: Final = "io.kubernetes.cri.sandbox-name"
_POD_NAMESPACE: Final = "io.kubernetes.cri.sandbox-namespace"
SANDBOX_ID: Final = "io.kubernetes.cri.sandbox-id"
CONTAINER_TYPE: Final = "io.kubernetes.cri.container-type"


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

    def make(self, annotations: Mapping[str, str], initdata: bytes) -> None:
        """Make it anew; nothing of an earlier pod of this name survives."""
        remove_tree(self.root)
        for path in (self.run, self.sealed, self.agent, f"{self.root}/work"):
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
        return f"{self.root}/work/{container_id}"

    def remove(self) -> None:
        """Remove everything, sealed images included."""
        remove_tree(self.root)
