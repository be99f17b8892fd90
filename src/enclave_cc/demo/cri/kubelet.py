"""
What a kubelet does for one pod, in its order, over the CRI socket.

Pods share the node's network namespace: a demo must not need a CNI plugin. Everything that is confidential
comes from the annotation and the image; nothing here knows about enclaves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.demo.cri.messages import NamespaceMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from enclave_cc.demo.cri.client import CriClient

_POLL_S: Final = 0.05
_STOP_GRACE_S: Final = 5
_NAMESPACES: Final = {"network": NamespaceMode.NODE, "pid": NamespaceMode.CONTAINER, "ipc": NamespaceMode.POD}


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What the API server would hand to the kubelet."""

    name: str
    image: str
    runtime_handler: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """Ids of a pod that runs, and the file that holds its container's output."""

    plan: PodPlan
    sandbox_id: str
    container_id: str
    log: Path


class Kubelet:
    """Runs pods one call at a time; `remove` is safe at every point of a pod's life."""

    def __init__(self, cri: CriClient, *, log_directory: Path, cgroup_parent: str) -> None:
        self.cri = cri
        self._log_directory = log_directory
        self._cgroup_parent = cgroup_parent

    def run_sandbox(self, plan: PodPlan) -> tuple[str, dict[str, object]]:
        """RunPodSandbox; returns the sandbox id and the configuration that later calls repeat."""
        config = self._sandbox_config(plan)
        answer = self.cri.runtime("RunPodSandbox", config=config, runtime_handler=plan.runtime_handler)
        return str(answer["pod_sandbox_id"]), config

    def pull(self, plan: PodPlan, sandbox_config: dict[str, object]) -> str:
        """PullImage; returns what containerd calls the image."""
        return str(
            self.cri.images("PullImage", image={"image": plan.image}, sandbox_config=sandbox_config)[
                "image_ref"
            ]
        )

    def create(self, plan: PodPlan, sandbox_id: str, sandbox_config: dict[str, object]) -> Pod:
        """CreateContainer."""
        answer = self.cri.runtime(
            "CreateContainer",
            pod_sandbox_id=sandbox_id,
            config=_container_config(plan),
            sandbox_config=sandbox_config,
        )
        log = self._log_directory / plan.name / f"{plan.name}.log"
        return Pod(plan, sandbox_id, str(answer["container_id"]), log)

    def start(self, pod: Pod) -> None:
        """StartContainer: containerd calls the shim's Create and Start."""
        self.cri.runtime("StartContainer", container_id=pod.container_id)

    def run(self, plan: PodPlan) -> Pod:
        """Do the whole sequence; whatever fails, nothing of the pod is left."""
        sandbox_id, config = self.run_sandbox(plan)
        try:
            self.pull(plan, config)
            pod = self.create(plan, sandbox_id, config)
            self.start(pod)
        except BaseException:
            # Half a pod must not outlive an interruption.
            self.remove_sandbox(sandbox_id)
            raise
        return pod

    def stop_container(self, pod: Pod) -> None:
        """StopContainer with a short grace."""
        self.cri.runtime("StopContainer", container_id=pod.container_id, timeout=_STOP_GRACE_S)

    def remove(self, pod: Pod) -> None:
        """StopContainer, StopPodSandbox and RemovePodSandbox."""
        self.stop_container(pod)
        self.remove_sandbox(pod.sandbox_id)

    def remove_sandbox(self, sandbox_id: str) -> None:
        """StopPodSandbox and RemovePodSandbox; both stop what still runs inside."""
        self.cri.runtime("StopPodSandbox", pod_sandbox_id=sandbox_id)
        self.cri.runtime("RemovePodSandbox", pod_sandbox_id=sandbox_id)

    def remove_all(self) -> None:
        """Remove every pod that containerd knows."""
        items = self.cri.runtime("ListPodSandbox")["items"]
        for item in items if isinstance(items, list) else []:
            self.remove_sandbox(str(item["id"]))

    def _sandbox_config(self, plan: PodPlan) -> dict[str, object]:
        directory = self._log_directory / plan.name
        directory.mkdir(parents=True, exist_ok=True)
        return {
            "metadata": {"name": plan.name, "uid": fresh_request_id().lower(), "namespace": "demo"},
            "log_directory": str(directory),
            "labels": {"app": plan.name},
            "annotations": dict(plan.annotations),
            "linux": {
                "cgroup_parent": self._cgroup_parent,
                "security_context": {"namespace_options": _NAMESPACES},
            },
        }


def _container_config(plan: PodPlan) -> dict[str, object]:
    return {
        "metadata": {"name": plan.name},
        "image": {"image": plan.image},
        "command": list(plan.command),
        "envs": [{"key": key, "value": value} for key, value in plan.environment.items()],
        "log_path": f"{plan.name}.log",
        "linux": {"security_context": {"namespace_options": _NAMESPACES}},
    }


def wait_for(what: str, seen: Callable[[], bool], *, within_s: float) -> None:
    """Poll until `seen`; raises UnavailableError(demo-wait-expired) naming `what`."""
    deadline = time.monotonic() + within_s
    while not seen():
        if time.monotonic() > deadline:
            raise UnavailableError("demo-wait-expired", f"{what} did not happen in time", stage=Stage.RUN)
        time.sleep(_POLL_S)
