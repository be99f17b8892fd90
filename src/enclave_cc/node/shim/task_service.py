"""The Task service: finds the container a call is about, and keeps creations apart from everything else."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

import os

from enclave_cc.formats.protobuf import ProtobufError, decode
from enclave_cc.formats.ttrpc import INVALID_ARGUMENT
from enclave_cc.node.shim.enclave import EnclaveContainer
from enclave_cc.node.shim.failures import (
    CHECKPOINT_REFUSED,
    CREATE_CANCELLED,
    CREATE_TIMED_OUT,
    POD_NOT_RUNNING,
    Failure,
    already_exists,
    failed_precondition,
    not_found,
    refusal,
    unknown,
)
from enclave_cc.node.shim.json_text import InvalidJson, loads
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.pod import CONTAINER_TYPE, SANDBOX_ID
from enclave_cc.node.shim.reactor import Cancelled, DeadlineExceeded, outcome
from enclave_cc.node.shim.request_id import fresh_request_id
from enclave_cc.node.shim.sandbox import Sandbox
from enclave_cc.node.shim.task_messages import (
    RUNC_OPTIONS,
    RUNC_OPTIONS_SUFFIX,
    TASK_CREATE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from enclave_cc.node.shim.container import Container
    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.rpc_server import Handler

# The specification goes to the agent in one frame together with little else.
_MAX_SPEC_BYTES: Final = 2 << 20
_SIGKILL: Final = 9

CANCELLABLE: Final = frozenset({"Create", "Wait"})


class TaskService:
    """All tasks of one shim."""

    def __init__(self, context: Context, on_shutdown: Callable[[], None]) -> None:
        self._context = context
        self._on_shutdown = on_shutdown
        self._containers: dict[str, Container] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each method."""
        return {
            "State": self._state,
            "Create": self._create,
            "Start": self._start,
            "Delete": self._delete,
            "Pids": self._pids,
            "Pause": self._pause,
            "Resume": self._resume,
            "Checkpoint": self._checkpoint,
            "Kill": self._kill,
            "Exec": self._exec,
            "ResizePty": self._resize,
            "CloseIO": self._close_io,
            "Update": self._update,
            "Wait": self._wait,
            "Stats": self._stats,
            "Connect": self._connect,
            "Shutdown": self._shutdown,
        }

    async def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        container_id = request["id"]
        if not container_id or "/" in container_id or container_id.startswith("."):
            raise Failure(INVALID_ARGUMENT, "the container id is malformed")
        if container_id in self._containers:
            raise already_exists(f"container {container_id}")
        container = self._containers[container_id] = self._new_container(request)
        creation = container.creation = self._context.reactor.spawn(container.create())
        try:
            await creation
        except Exception as error:
            log("create-failed", container=container_id, error=f"{type(error).__name__}: {error}")
            try:
                await _give_up(container, error)
            except Failure as failure:
                # What stays now is for containerd's broom; a name that stayed too would keep the shim alive.
                log("undo-failed", container=container_id, error=failure.message)
            del self._containers[container_id]
            container.init.abandon()
            raise _explained(container, error) from error
        container.creation = None
        pid = container.init.pid
        streams = {name: request[name] for name in ("stdin", "stdout", "stderr", "terminal")}
        self._context.events.publish(
            TASK_CREATE,
            {
                "container_id": container_id,
                "bundle": container.bundle,
                "rootfs": request["rootfs"],
                "io": streams,
                "checkpoint": request["checkpoint"],
                "pid": pid,
            },
        )
        return {"pid": pid}

    def _new_container(self, request: dict[str, Any]) -> Container:
        spec_text, spec = _read_spec(request["bundle"])
        annotations = spec.get("annotations") or {}
        systemd_cgroup = _options(request["options"]).get("systemd_cgroup", False)
        if request["checkpoint"]:
            raise refusal(CHECKPOINT_REFUSED, fresh_request_id())
        if annotations.get(CONTAINER_TYPE) == "sandbox":
            return Sandbox(self._context, request, spec, systemd_cgroup=systemd_cgroup)
        sandbox = self._containers.get(annotations.get(SANDBOX_ID, ""))
        if not isinstance(sandbox, Sandbox) or sandbox.creation is not None:
            raise refusal(POD_NOT_RUNNING, fresh_request_id())
        return EnclaveContainer(self._context, request, spec_text, sandbox, systemd_cgroup=systemd_cgroup)

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"pid": await self._container(request).start(request["exec_id"])}

    async def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self._container(request)
        if container.creation is not None:
            await self._cancel(container)
            raise not_found("the container was never created")
        if request["exec_id"]:
            return await container.delete_exec(request["exec_id"])
        values = await container.delete()
        self._containers.pop(container.id, None)
        return values

    async def _kill(self, request: dict[str, Any]) -> None:
        container = self._container(request)
        if container.creation is not None and request["signal"] == _SIGKILL:
            await self._cancel(container)
        else:
            await container.kill(request["exec_id"], request["signal"], everyone=request["all"])

    async def _cancel(self, container: Container) -> None:
        creation = container.creation
        if creation is None or not container.cancellable:
            raise failed_precondition("the container is being created")
        creation.cancel()
        await outcome(creation)

    async def _exec(self, request: dict[str, Any]) -> None:
        await self._container(request).add_exec(request)

    async def _pause(self, request: dict[str, Any]) -> None:
        await self._container(request).freeze(frozen=True)

    async def _resume(self, request: dict[str, Any]) -> None:
        await self._container(request).freeze(frozen=False)

    async def _update(self, request: dict[str, Any]) -> None:
        resources = request["resources"]
        await self._container(request).update(resources["value"] if resources else b"{}")

    async def _checkpoint(self, request: dict[str, Any]) -> None:
        self._container(request)
        raise refusal(CHECKPOINT_REFUSED, fresh_request_id())

    async def _resize(self, request: dict[str, Any]) -> None:
        console = self._container(request).process(request["exec_id"]).console
        if console is not None:
            console.resize(request["width"], request["height"])

    async def _close_io(self, request: dict[str, Any]) -> None:
        if request["stdin"]:
            self._container(request).process(request["exec_id"]).streams.close_stdin()

    async def _wait(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._container(request).process(request["exec_id"])
        await process.ended
        return process.exit_values()

    async def _state(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self._container(request)
        process = container.process(request["exec_id"])
        streams = process.streams
        return {
            "id": process.exec_id or container.id,
            "bundle": container.bundle,
            "pid": process.pid,
            "status": process.state,
            "stdin": streams.stdin,
            "stdout": streams.stdout,
            "stderr": streams.stderr,
            "terminal": streams.terminal,
            "exec_id": process.exec_id,
            **process.exit_values(),
        }

    async def _pids(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"processes": self._container(request).pids()}

    async def _stats(self, request: dict[str, Any]) -> dict[str, Any]:
        from enclave_cc.node.shim.stats import collect  # noqa: PLC0415 - many schemas that most pods never need

        return {"stats": collect(self._container(request).cgroups.paths)}

    async def _connect(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self._containers.get(request["id"])
        pid = container.init.pid if container is not None else 0
        return {"shim_pid": os.getpid(), "task_pid": pid, "version": "v2"}

    async def _shutdown(self, _request: dict[str, Any]) -> None:
        if not self._containers:
            self._on_shutdown()

    def _container(self, request: dict[str, Any]) -> Container:
        container = self._containers.get(request["id"])
        if container is None:
            raise not_found("container not created")
        return container


async def _give_up(container: Container, error: Exception) -> None:
    """End a creation whose caller has gone: cancelled where possible, undone when it succeeded after all."""
    creation = container.creation
    if creation is None or creation.done:
        return
    if container.cancellable:
        creation.cancel(error)
    if await outcome(creation) is None:
        await container.delete()


def _explained(container: Container, error: Exception) -> Exception:
    request_id = container.request_id
    if isinstance(error, DeadlineExceeded):
        return refusal(CREATE_TIMED_OUT, request_id)
    if isinstance(error, Cancelled):
        return refusal(CREATE_CANCELLED, request_id)
    return error


def _read_spec(bundle: str) -> tuple[bytes, dict[str, Any]]:
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            text = file.read(_MAX_SPEC_BYTES + 1)
        spec = loads(text)
    except (OSError, InvalidJson) as error:
        raise unknown(f"config.json: {error}") from error
    if len(text) > _MAX_SPEC_BYTES or not isinstance(spec, dict):
        raise unknown("config.json: not a specification of acceptable size")
    return text, spec


def _options(options: dict[str, Any] | None) -> dict[str, Any]:
    """Read runc's options as the CRI plugin passes them; other kinds of options say nothing to this shim."""
    if not options or not options["type_url"].endswith(RUNC_OPTIONS_SUFFIX):
        return {}
    try:
        return decode(RUNC_OPTIONS, options["value"])
    except ProtobufError as error:
        raise Failure(INVALID_ARGUMENT, f"options: {error}") from error
