"""The pod's agent enclave: a runc container of its own beside the sandbox, and the calls that go to it."""

from __future__ import annotations

import os
from time import monotonic

from enclave_cc.formats.messages.agent import AGENT_SERVICE
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.ttrpc import UNAVAILABLE
from enclave_cc.node.shim.agent_log import AgentLog
from enclave_cc.node.shim.agent_spec import InvalidBundle, agent_spec
from enclave_cc.node.shim.descriptors import Descriptors
from enclave_cc.node.shim.directories import write_private
from enclave_cc.node.shim.failures import (
    AGENT_BUNDLE_INVALID,
    AGENT_START_FAILED,
    AGENT_UNAVAILABLE,
    PLATFORM_UNAVAILABLE,
    Failure,
    refusal,
    relayed,
)
from enclave_cc.node.shim.json_text import dumps
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.peer import call_once
from enclave_cc.node.shim.pump import Pump
from enclave_cc.node.shim.reactor import DeadlineExceeded, within
from enclave_cc.node.shim.rpc_client import RpcClient
from enclave_cc.node.shim.runc import Runc, RuncFailed, read_pid
from enclave_cc.node.shim.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.pod import PodDirectory
    from enclave_cc.node.shim.reactor import Future

_PRODUCT_HAS_NO_CONFIG_ID: Final = b""
# Measuring the bundle for the first time reads some hundred megabytes.
LAUNCH_S: Final = 30.0
# An interpreter and its imports on a busy node; the agent then listens.
_AGENT_READY_S: Final = 30.0
_FIRST_RETRY_S: Final = 0.01
_LAST_RETRY_S: Final = 0.2
_KILL_S: Final = 5.0


class Agent:
    """One per pod; gone when its process is, and never started again: its identity's secrets died with it."""

    def __init__(self, context: Context, pod: PodDirectory, *, systemd_cgroup: bool) -> None:
        self._context = context
        self._pod = pod
        self._id = f"{pod.sandbox_id}-agent"
        self._ended: Future | None = None
        self._pid = 0
        self._output: Pump | None = None
        settings = context.settings
        self._runc = Runc(
            context.reaper,
            settings.runc,
            settings.agents_root(context.namespace),
            f"{pod.agent}/log.json",
            systemd_cgroup=systemd_cgroup,
        )

    @property
    def alive(self) -> bool:
        """Tell whether the enclave's process runs."""
        return self._ended is not None and not self._ended.done

    async def start(self, sandbox_spec: dict[str, Any], initdata: bytes, request_id: str) -> None:
        """Create, measure, run; raise ``Failure`` with a host line."""
        try:
            spec = agent_spec(self._context.settings, self._pod, sandbox_spec)
            write_private(f"{self._pod.agent}/config.json", dumps(spec))
            with self._context.reaper.expecting():
                await self._create()
                self._watch(read_pid(f"{self._pod.agent}/agent.pid"))
            await self._launch(initdata, request_id)
            await self._runc.run("start", self._id)
        except InvalidBundle as error:
            log("agent-bundle-invalid", error=str(error))
            raise refusal(AGENT_BUNDLE_INVALID, request_id) from error
        except (RuncFailed, OSError) as error:
            log("agent-start-failed", error=str(error))
            raise refusal(AGENT_START_FAILED, request_id) from error

    async def call(
        self, method: str, request: dict[str, Any], *, timeout_s: float, request_id: str
    ) -> dict[str, Any]:
        """Call the agent; raise ``Failure`` with the agent's own reason, or that it does not answer."""
        try:
            client = await self._connect()
        except Failure as failure:
            raise refusal(AGENT_UNAVAILABLE, request_id) from failure
        try:
            return await client.call(AGENT_SERVICE, method, request, timeout_s)
        except Failure as failure:
            raise relayed(failure, request_id, AGENT_UNAVAILABLE) from failure
        except DeadlineExceeded as error:
            raise refusal(AGENT_UNAVAILABLE, request_id) from error
        finally:
            client.close()

    async def stop(self) -> None:
        """Kill and delete the container; everything may be half made or gone already."""
        if self.alive and self._ended is not None:
            try:
                os.kill(self._pid, SIGKILL)
                await within(self._context.reactor, _KILL_S, self._ended)
            except (DeadlineExceeded, ProcessLookupError) as error:
                log("agent-kill-slow", error=type(error).__name__)
        try:
            await self._runc.delete(self._id, force=True)
        except RuncFailed as failed:
            log("agent-delete-failed", error=str(failed))
        if self._output is not None:
            self._output.close()

    async def _create(self) -> None:
        child = Descriptors()
        try:
            source, sink = os.pipe2(os.O_CLOEXEC)
            child.keep(sink)
            os.set_blocking(source, False)
            output = AgentLog(self._pod.agent_log)
            self._output = Pump(self._context.reactor, source, output.write, output.descriptor)
            null = child.open("/dev/null", os.O_RDONLY)
            await self._runc.run(
                "create",
                "--bundle",
                self._pod.agent,
                "--pid-file",
                f"{self._pod.agent}/agent.pid",
                self._id,
                descriptors=(null, sink, sink),
            )
        finally:
            child.close()

    async def _launch(self, initdata: bytes, request_id: str) -> None:
        settings = self._context.settings
        request = {
            "pid": self._pid,
            "bundle": settings.agent_bundle,
            "initdata": initdata,
            "config_id": _PRODUCT_HAS_NO_CONFIG_ID,
        }
        await call_once(
            self._context.reactor,
            settings.platform_socket,
            PLATFORM_SERVICE,
            "Launch",
            request,
            timeout_s=LAUNCH_S,
            otherwise=PLATFORM_UNAVAILABLE,
            request_id=request_id,
        )

    def _watch(self, pid: int) -> None:
        self._pid = pid
        self._ended = self._context.reaper.watch(pid)
        self._ended.then(lambda ended: log("agent-ended", pid=pid, exit_status=ended.value))

    async def _connect(self) -> RpcClient:
        """Connect, again and again while a fresh agent is not listening yet."""
        pause_s = _FIRST_RETRY_S
        give_up = monotonic() + _AGENT_READY_S
        while self.alive:
            try:
                return RpcClient(self._context.reactor, self._pod.agent_socket)
            except OSError as error:
                if monotonic() > give_up:
                    raise Failure(UNAVAILABLE, "the agent does not listen") from error
            await self._context.reactor.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_RETRY_S)
        raise Failure(UNAVAILABLE, "the agent has ended")
