"""
What all containers of a pod have in common: their processes and what runc does for them.

``create`` and ``dismantle`` belong to the two kinds, ``Sandbox`` and ``EnclaveContainer``.
"""

from __future__ import annotations

from enclave_cc.formats.protobuf import encode
from enclave_cc.formats.ttrpc import INVALID_ARGUMENT
from enclave_cc.node.shim.cgroups import Cgroups
from enclave_cc.node.shim.directories import write_private
from enclave_cc.node.shim.failures import Failure, already_exists, failed_precondition, not_found, unknown
from enclave_cc.node.shim.oom import OomWatch
from enclave_cc.node.shim.process import Process
from enclave_cc.node.shim.reactor import Lock
from enclave_cc.node.shim.request_id import fresh_request_id
from enclave_cc.node.shim.runc import Runc, RuncFailed
from enclave_cc.node.shim.stdio import Streams
from enclave_cc.node.shim.task_messages import (
    CREATED,
    PAUSED,
    PROCESS_DETAILS,
    PROCESS_DETAILS_URL,
    RUNNING,
    TASK_DELETE,
    TASK_EXEC_ADDED,
    TASK_EXEC_STARTED,
    TASK_OOM,
    TASK_PAUSED,
    TASK_RESUMED,
    TASK_START,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.reactor import Task


class Container:
    """One task of containerd: the first process, the exec'd ones, and the runc container that holds them."""

    # Whether a half-made container can be given up while its creation waits for something.
    cancellable = False

    def __init__(self, context: Context, request: dict[str, Any], *, systemd_cgroup: bool) -> None:
        self.id: str = request["id"]
        self.bundle: str = request["bundle"]
        self.context = context
        self.creation: Task | None = None
        self.request_id = fresh_request_id()
        self.init = Process(context, self.id, "", _streams(request))
        self.execs: dict[str, Process] = {}
        self.runc = Runc(
            context.reaper,
            context.settings.runc,
            context.settings.containers_root(context.namespace),
            f"{self.bundle}/log.json",
            systemd_cgroup=systemd_cgroup,
        )
        self.cgroups = Cgroups()
        self._oom = OomWatch(context.reactor, lambda: self._publish(TASK_OOM))
        self._lock = Lock(context.reactor)
        self._deleted = False

    async def create(self) -> None:
        """Make the container up to the point where ``start`` runs it; undo everything on failure."""
        raise unknown("this kind of container cannot be created")

    async def dismantle(self) -> None:
        """Undo what ``create`` made beside the runc container."""

    async def authorize_exec(self, process: bytes) -> bytes:
        """Return the process that may run instead of the one asked for."""
        return process

    def process(self, exec_id: str) -> Process:
        """Find a process; raise ``Failure``."""
        process = self.execs.get(exec_id) if exec_id else self.init
        if process is None:
            raise not_found(f"process {exec_id} does not exist")
        return process

    async def start(self, exec_id: str) -> int:
        """Run the first process, or an added one; return its pid."""
        process = self.process(exec_id)
        async with self._lock:
            if process.state != CREATED or (process is self.init and not process.pid):
                raise failed_precondition("the process is not in the created state")
            with process.starting():
                if process is self.init:
                    await self._start_init()
                else:
                    await self._start_exec(process)
        return process.pid

    async def add_exec(self, request: dict[str, Any]) -> None:
        """Prepare a process to be started beside the first."""
        exec_id = request["exec_id"]
        if not exec_id or "/" in exec_id:
            raise Failure(INVALID_ARGUMENT, "the exec id is malformed")
        if exec_id in self.execs:
            raise already_exists(f"id {exec_id}")
        if self.init.state != RUNNING:
            raise failed_precondition("the container does not run")
        asked = request["spec"]["value"] if request["spec"] else b""
        process = Process(self.context, self.id, exec_id, _streams(request))
        self.execs[exec_id] = process
        try:
            write_private(self._process_file(exec_id), await self.authorize_exec(asked))
        except Exception:
            # Whatever it was, the caller hears of it, and the name is free again.
            del self.execs[exec_id]
            raise
        self._publish(TASK_EXEC_ADDED, exec_id=exec_id)

    async def kill(self, exec_id: str, signal: int, *, everyone: bool) -> None:
        """Send a signal to one process, or to all of the container."""
        process = self.process(exec_id)
        if process is not self.init or not everyone:
            process.kill(signal)
            return
        try:
            await self.runc.run("kill", "--all", self.id, str(signal))
        except RuncFailed as failed:
            raise _kill_failure(failed) from failed

    async def freeze(self, *, frozen: bool) -> None:
        """Pause or resume all processes."""
        try:
            await self.runc.run("pause" if frozen else "resume", self.id)
        except RuncFailed as failed:
            raise unknown(f"OCI runtime failed: {failed}") from failed
        self.init.state = PAUSED if frozen else RUNNING
        self._publish(TASK_PAUSED if frozen else TASK_RESUMED)

    async def update(self, resources: bytes) -> None:
        """Change resource limits."""
        path = f"{self.bundle}/resources.json"
        write_private(path, resources)
        try:
            await self.runc.run("update", "--resources", path, self.id)
        except RuncFailed as failed:
            raise unknown(f"OCI runtime update failed: {failed}") from failed

    async def delete(self) -> dict[str, Any]:
        """Remove the container and everything made for it."""
        async with self._lock:
            if self._deleted:
                raise not_found("container not created")
            if self.init.state in (RUNNING, PAUSED):
                raise failed_precondition("cannot delete a running process")
            await self.init.close()
            for process in self.execs.values():
                await process.close()
            self._oom.close()
            try:
                await self.runc.delete(self.id, force=self.init.state == CREATED)
            except RuncFailed as failed:
                raise unknown(f"failed to delete task: {failed}") from failed
            await self.dismantle()
            self.init.abandon()
            self._deleted = True
        values = {"pid": self.init.pid, **self.init.exit_values()}
        self._publish(TASK_DELETE, **values)
        return values

    async def delete_exec(self, exec_id: str) -> dict[str, Any]:
        """Forget an added process."""
        process = self.process(exec_id)
        if process.state == RUNNING:
            raise failed_precondition("cannot delete a running process")
        await process.close()
        self.execs.pop(exec_id, None)
        return {"pid": process.pid, **process.exit_values()}

    def pids(self) -> list[dict[str, Any]]:
        """List the container's processes; exec'd ones carry their id."""
        exec_ids = {process.pid: process.exec_id for process in self.execs.values()}
        return [
            {"pid": pid, "info": _details(exec_ids[pid]) if pid in exec_ids else None}
            for pid in self.cgroups.pids()
        ]

    async def _start_init(self) -> None:
        self.cgroups.learn(self.init.pid)
        try:
            await self.runc.run("start", self.id)
        except RuncFailed as failed:
            raise unknown(f"OCI runtime start failed: {failed}") from failed
        self.init.running()
        self._publish(TASK_START, pid=self.init.pid)
        self._oom.open(self.cgroups)

    async def _start_exec(self, process: Process) -> None:
        try:
            await process.launch(
                self.runc,
                "exec",
                "--process",
                self._process_file(process.exec_id),
                "--detach",
                self.id,
                pid_file=f"{self.bundle}/{process.exec_id}.pid",
            )
        except (RuncFailed, Failure) as failed:
            process.abandon()
            raise unknown(f"OCI runtime exec failed: {failed}") from failed
        process.running()
        self._publish(TASK_EXEC_STARTED, exec_id=process.exec_id, pid=process.pid)

    def _process_file(self, exec_id: str) -> str:
        return f"{self.bundle}/{exec_id}-process.json"

    def _publish(self, event: Any, **values: Any) -> None:
        self.context.events.publish(event, {"container_id": self.id, **values})


def _streams(request: dict[str, Any]) -> Streams:
    return Streams(request["stdin"], request["stdout"], request["stderr"], terminal=request["terminal"])


def _details(exec_id: str) -> dict[str, Any]:
    return {"type_url": PROCESS_DETAILS_URL, "value": encode(PROCESS_DETAILS, {"exec_id": exec_id})}


def _kill_failure(failed: RuncFailed) -> Failure:
    text = str(failed).lower()
    if failed.gone or "already finished" in text or "not running" in text or "no such process" in text:
        return not_found("process already finished")
    return unknown(f"OCI runtime kill failed: {failed}")
