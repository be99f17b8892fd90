"""One process of a container, from containerd's point of view: created, running, stopped, and its streams."""

from __future__ import annotations

import os
import time

from enclave_cc.node.shim.console import Console, ConsoleSocket
from enclave_cc.node.shim.descriptors import Descriptors
from enclave_cc.node.shim.failures import not_found
from enclave_cc.node.shim.runc import read_pid
from enclave_cc.node.shim.task_messages import CREATED, RUNNING, STOPPED, TASK_EXIT, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.reactor import Future
    from enclave_cc.node.shim.runc import Runc
    from enclave_cc.node.shim.stdio import Streams

# What containerd itself reports for a process that never ran.
_NEVER_RAN: Final = 255


class Process:
    """A container's first process, or one that was added by exec."""

    def __init__(self, context: Context, container_id: str, exec_id: str, streams: Streams) -> None:
        self.container_id = container_id
        self.exec_id = exec_id
        self.streams = streams
        self.pid = 0
        self.state = CREATED
        self.exit_status = 0
        self.exited_at_ns = 0
        self.ended: Future = context.reactor.future()
        self.console: Console | None = None
        self._context = context
        self._starting = False
        self._exit_held_back: int | None = None

    async def launch(self, runc: Runc, command: str, *arguments: str, pid_file: str) -> None:
        """Run ``runc create`` or ``runc exec`` with the streams; raise ``RuncFailed`` or ``Failure``."""
        reaper = self._context.reaper
        with reaper.expecting():
            if self.streams.terminal:
                with ConsoleSocket(self._context.socket_directory) as console:
                    await runc.run(
                        command, "--pid-file", pid_file, "--console-socket", console.path, *arguments
                    )
                    self.attach(console)
            else:
                await self._launch_piped(runc, command, "--pid-file", pid_file, *arguments)
            self.adopt(read_pid(pid_file))

    async def _launch_piped(self, runc: Runc, *arguments: str) -> None:
        child = Descriptors()
        try:
            await runc.run(*arguments, descriptors=self.streams.open(child))
        except Exception:
            # Whatever it was, the caller hears of it, and no pipe stays open.
            self.streams.close()
            raise
        finally:
            child.close()

    def attach(self, console: ConsoleSocket) -> None:
        """Take over the terminal that runc sent."""
        self.console = Console(self._context.reactor, console.receive(), self.streams)

    def adopt(self, pid: int) -> None:
        """Learn the pid; from here on the end of the process is noticed."""
        self.pid = pid
        self._context.reaper.watch(pid).then(lambda ended: self._exited(ended.value))

    def starting(self) -> Starting:
        """Hold the exit event back in a ``with`` block: it may not overtake the start event."""
        return Starting(self)

    def hold_exit(self, *, starting: bool) -> None:
        """Begin or end holding back."""
        self._starting = starting
        if not starting and self._exit_held_back is not None:
            status, self._exit_held_back = self._exit_held_back, None
            self._exited(status)

    def running(self) -> None:
        """Note that it started."""
        self.state = RUNNING

    def abandon(self) -> None:
        """Note that it never ran: whoever waits is told."""
        if self.state != STOPPED:
            self._stop(_NEVER_RAN)

    def kill(self, signal: int) -> None:
        """Send a signal; raise ``Failure`` when the process has ended."""
        if self.state == STOPPED or not self.pid:
            raise not_found("process already finished")
        try:
            # The pid is a child that only the reaper waits for, so it names no other process.
            os.kill(self.pid, signal)
        except ProcessLookupError as error:
            raise not_found("process already finished") from error

    async def close(self) -> None:
        """Let go of streams and terminal, after the last output."""
        if self.console is not None:
            await self.console.drain()
        self.streams.close()

    def exit_values(self) -> dict[str, Any]:
        """Return the members that exit and delete messages share."""
        return {"exit_status": self.exit_status, "exited_at": timestamp(self.exited_at_ns)}

    def _exited(self, status: int) -> None:
        if self._starting:
            self._exit_held_back = status
            return
        self._stop(status)
        self._context.events.publish(
            TASK_EXIT,
            {
                "container_id": self.container_id,
                "id": self.exec_id or self.container_id,
                "pid": self.pid,
                **self.exit_values(),
            },
        )

    def _stop(self, status: int) -> None:
        self.exit_status = status
        self.exited_at_ns = time.time_ns()
        self.state = STOPPED
        self.streams.close()
        self.ended.resolve()


class Starting:
    """The span between asking runc to start a process and telling containerd about it."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> None:
        self._process.hold_exit(starting=True)

    def __exit__(self, *_: object) -> None:
        self._process.hold_exit(starting=False)
