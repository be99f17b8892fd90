"""A pod's sandbox: the pause container on containerd's own mounts, and the agent enclave beside it."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH103

from __future__ import annotations

import os

from enclave_cc.node.shim.agent import Agent
from enclave_cc.node.shim.container import Container
from enclave_cc.node.shim.failures import refusal, unknown
from enclave_cc.node.shim.initdata import RefusedInitdata, initdata_of
from enclave_cc.node.shim.linux import detach, mount
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.pod import PodDirectory
from enclave_cc.node.shim.reactor import both
from enclave_cc.node.shim.runc import RuncFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from enclave_cc.node.shim.context import Context


class Sandbox(Container):
    """The pod: its directory, its agent, its initdata."""

    def __init__(
        self, context: Context, request: dict[str, Any], spec: dict[str, Any], *, systemd_cgroup: bool
    ) -> None:
        super().__init__(context, request, systemd_cgroup=systemd_cgroup)
        self.pod = PodDirectory(context.settings, self.id)
        self.agent = Agent(context, self.pod, systemd_cgroup=systemd_cgroup)
        self.initdata = b""
        self._spec = spec
        self._mounts: list[dict[str, Any]] = request["rootfs"]
        self._mounted = 0

    async def create(self) -> None:
        """Start agent and pause container side by side; both must succeed."""
        annotations = self._spec.get("annotations") or {}
        try:
            self.initdata = initdata_of(annotations)
        except RefusedInitdata as refused:
            raise refusal(refused.reason, self.request_id) from refused
        try:
            self.pod.make(annotations, self.initdata, namespace=self.context.namespace, bundle=self.bundle)
            agent = self.context.reactor.spawn(self.agent.start(self._spec, self.initdata, self.request_id))
            # Both are awaited before either may raise: neither may still run when the other is undone.
            await both(self.context.reactor.spawn(self._create_pause()), agent)
        except Exception as error:
            await self._undo()
            if isinstance(error, OSError):
                raise unknown(f"the pod's directory cannot be made: {error.strerror}") from error
            raise

    async def dismantle(self) -> None:
        """End the agent, unmount, and remove the pod's directory with every sealed image in it."""
        await self.agent.stop()
        self._unmount()
        self.pod.remove()

    async def _create_pause(self) -> None:
        rootfs = f"{self.bundle}/rootfs"
        try:
            os.makedirs(rootfs, 0o711, exist_ok=True)
            for given in self._mounts:
                mount(given["source"], rootfs, given["type"], given["options"])
                self._mounted += 1
            await self.init.launch(
                self.runc, "create", "--bundle", self.bundle, self.id, pid_file=f"{self.bundle}/init.pid"
            )
        except RuncFailed as failed:
            raise unknown(f"OCI runtime create failed: {failed}") from failed
        except OSError as error:
            raise unknown(f"failed to mount the sandbox's root file system: {error}") from error

    async def _undo(self) -> None:
        try:
            await self.runc.delete(self.id, force=True)
        except RuncFailed as failed:
            log("undo-failed", container=self.id, error=str(failed))
        await self.dismantle()

    def _unmount(self) -> None:
        while self._mounted:
            self._mounted -= 1
            try:
                detach(f"{self.bundle}/rootfs")
            except OSError as error:
                log("unmount-failed", container=self.id, error=str(error))
