"""
A workload container: prepared by the agent, booted in an enclave of its own, run by runc.

The root file system that containerd offers is never mounted. What the host knows about the
image goes to the agent as a hint; what may run comes back from it, and the key goes from agent
to boot program without passing here.
"""

from __future__ import annotations

from enclave_cc.formats.messages.node import NODE_SERVICE
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.agent import LAUNCH_S
from enclave_cc.node.shim.agent_spec import InvalidBundle
from enclave_cc.node.shim.boot import Boot
from enclave_cc.node.shim.console import ConsoleSocket
from enclave_cc.node.shim.container import Container
from enclave_cc.node.shim.descriptors import Descriptors
from enclave_cc.node.shim.directories import make_private, remove_tree
from enclave_cc.node.shim.failures import (
    AGENT_UNAVAILABLE,
    BOOT_FAILED,
    NODE_UNAVAILABLE,
    PLATFORM_UNAVAILABLE,
    Failure,
    refusal,
)
from enclave_cc.node.shim.hashes import sha512
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.peer import call_once
from enclave_cc.node.shim.request_id import fresh_request_id
from enclave_cc.node.shim.runc import RuncFailed
from enclave_cc.node.shim.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.sandbox import Sandbox

_RESOLVE_S: Final = 10.0
# A large image over a slow line; the caller's own deadline is usually much shorter.
_PREPARE_S: Final = 3600.0
_AUTHORIZE_S: Final = 30.0
_DISCARD_S: Final = 10.0
_CONFIG_ID_LABEL: Final = b"enclave-cc app v1"


class EnclaveContainer(Container):
    """One container in one enclave, for as long as its boot program lives."""

    cancellable = True

    def __init__(
        self,
        context: Context,
        request: dict[str, Any],
        spec: bytes,
        sandbox: Sandbox,
        *,
        systemd_cgroup: bool,
    ) -> None:
        super().__init__(context, request, systemd_cgroup=systemd_cgroup)
        self._spec = spec
        self._sandbox = sandbox
        self._boot: Boot | None = None
        self._work = sandbox.pod.work(self.id)
        self._sealed_image = ""
        self._stopping = False
        self._prepared = False
        self._doomed = False

    async def create(self) -> None:
        """Resolve, prepare, launch, boot; whatever fails, nothing of it stays."""
        try:
            self._sealed_image = await self._prepare()
            with self.context.reaper.expecting():
                self.init.adopt(await self._boot_up(self._sealed_image))
            if self._doomed:
                self._kill()
        except Exception:
            # Whatever it was, the caller hears of it, and nothing stays.
            await self._undo()
            raise

    async def dismantle(self) -> None:
        """End the boot program, let the agent forget the container, remove what it left."""
        self._stopping = True
        if self._boot is not None:
            await self._boot.stop()
        if self._prepared and self._sandbox.agent.alive:
            try:
                await self._sandbox.agent.call(
                    "Discard", {"container_id": self.id}, timeout_s=_DISCARD_S, request_id=self.request_id
                )
            except Failure as failure:
                log("discard-failed", container=self.id, error=failure.message)
        if self._sealed_image:
            # The agent has done so already, unless it has ended or does not answer.
            remove_tree(self._sealed_image)
        remove_tree(self._work)

    async def authorize_exec(self, process: bytes) -> bytes:
        """Ask the agent; what it returns is what runs."""
        request_id = fresh_request_id()
        request = {"request_id": request_id, "container_id": self.id, "process": process}
        answer = await self._sandbox.agent.call(
            "AuthorizeExec", request, timeout_s=_AUTHORIZE_S, request_id=request_id
        )
        return bytes(answer["process"])

    async def _prepare(self) -> str:
        """Let the agent pull and seal; return the name of the sealed image's directory."""
        reactor, settings = self.context.reactor, self.context.settings
        image = await call_once(
            reactor,
            settings.node_socket,
            NODE_SERVICE,
            "ResolveContainer",
            {"namespace": self.context.namespace, "container_id": self.id},
            timeout_s=_RESOLVE_S,
            otherwise=NODE_UNAVAILABLE,
            request_id=self.request_id,
        )
        request = {"request_id": self.request_id, "container_id": self.id, "spec": self._spec, **image}
        self._prepared = True
        answer = await self._sandbox.agent.call(
            "Prepare", request, timeout_s=_PREPARE_S, request_id=self.request_id
        )
        name = str(answer["sealed_image"])
        if not name or "/" in name or name in (".", ".."):
            log("sealed-image-name-invalid", container=self.id)
            raise refusal(AGENT_UNAVAILABLE, self.request_id)
        return f"{self._sandbox.pod.sealed}/{name}"

    async def _boot_up(self, sealed_image: str) -> int:
        make_private(self._work)
        if self.init.streams.terminal:
            with ConsoleSocket(self.context.socket_directory) as console:
                pid = await self._run_boot(sealed_image, (), console.path)
                self.init.attach(console)
            return pid
        child = Descriptors()
        try:
            return await self._run_boot(sealed_image, self.init.streams.open(child), "")
        finally:
            child.close()

    async def _run_boot(self, sealed_image: str, streams: Sequence[int], console: str) -> int:
        try:
            boot = self._boot = Boot(
                self.context, streams, f"{self._work}/{boot_record.NAME}", self._boot_event
            )
        except (InvalidBundle, OSError) as error:
            log("boot-start-failed", container=self.id, error=str(error))
            raise refusal(BOOT_FAILED, self.request_id) from error
        boot.ended.then(lambda ended: self._boot_ended(ended.value))
        await self._launch(boot.pid)
        return await boot.run(self._order(sealed_image, console), self.request_id)

    async def _launch(self, pid: int) -> None:
        settings = self.context.settings
        request = {
            "pid": pid,
            "bundle": settings.boot_bundle,
            "initdata": self._sandbox.initdata,
            "config_id": app_config_id(self._sandbox.id, self.id),
        }
        await call_once(
            self.context.reactor,
            settings.platform_socket,
            PLATFORM_SERVICE,
            "Launch",
            request,
            timeout_s=LAUNCH_S,
            otherwise=PLATFORM_UNAVAILABLE,
            request_id=self.request_id,
        )

    def _order(self, sealed_image: str, console: str) -> dict[str, Any]:
        pod, settings = self._sandbox.pod, self.context.settings
        return {
            "request_id": self.request_id,
            "agent_socket": pod.agent_socket,
            "platform_socket": settings.platform_socket,
            "pod_uid": self._sandbox.id,
            "container_id": self.id,
            "sealed_image": sealed_image,
            "initdata": f"{pod.run}/initdata.toml" if self._sandbox.initdata else "",
            "bundle": self.bundle,
            "rootfs": f"{self.bundle}/rootfs",
            "work": self._work,
            "runc": self.runc.program,
            "runc_root": self.runc.root,
            "runc_log": self.runc.log,
            "systemd_cgroup": self.runc.systemd_cgroup,
            "console_socket": console,
            "pid_file": f"{self.bundle}/init.pid",
        }

    def _boot_event(self, event: dict[str, Any]) -> None:
        log("boot-event", container=self.id, kind=str(event.get("event")), code=str(event.get("code", "")))
        if event.get("event") == "poisoned":
            self._kill()

    def _boot_ended(self, status: int) -> None:
        """Without its boot program a container has no root file system any more."""
        if not self._stopping:
            log("boot-ended-early", container=self.id, exit_status=status)
            self._kill()

    def _kill(self) -> None:
        # The news may overtake the pid that it is about.
        self._doomed = True
        try:
            self.init.kill(SIGKILL)
        except Failure:
            return

    async def _undo(self) -> None:
        self._stopping = True
        if self._boot is not None:
            await self._boot.stop()
            try:
                await self.runc.delete(self.id, force=True)
            except RuncFailed as failed:
                log("undo-failed", container=self.id, error=str(failed))
        await self.init.close()
        await self.dismantle()


def app_config_id(pod_uid: str, container_id: str) -> bytes:
    """Bind an app enclave's identity to its pod and container, as ``formats.local_attestation`` does."""
    digest = sha512()
    for part in (_CONFIG_ID_LABEL, pod_uid.encode(), container_id.encode()):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
