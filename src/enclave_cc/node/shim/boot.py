"""
The boot program of one container: forked into a private mount namespace, told what to do once it is measured.

The control socket is one JSON line each way, then events. It is also the leash: when it
closes, because the shim stopped or died, boot kills its container, unmounts and ends.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair

from enclave_cc.formats.ttrpc import UNKNOWN
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.agent_spec import read_bundle
from enclave_cc.node.shim.failures import BOOT_FAILED, Reason, refusal
from enclave_cc.node.shim.json_text import InvalidJson, dumps, loads
from enclave_cc.node.shim.linux import unshare_mounts
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.reactor import READABLE, DeadlineExceeded, within
from enclave_cc.node.shim.signals import (
    SIG_DFL,
    SIG_SETMASK,
    SIGCHLD,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGTERM,
    pthread_sigmask,
    signal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from enclave_cc.node.shim.context import Context
    from enclave_cc.node.shim.reactor import Future

_CONTROL: Final = 3
_FIRST_STREAM: Final = 4
# Descriptors are moved above everything that the child renumbers, before they are put in place.
_OUT_OF_THE_WAY: Final = 20
_MAX_LINE_BYTES: Final = 1 << 16
_READ_BYTES: Final = 1 << 14
_STOP_S: Final = 10.0
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Boot:
    """A running boot program; ``ended`` resolves with its exit status."""

    def __init__(
        self,
        context: Context,
        streams: Sequence[int],
        record: str,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self._reactor = context.reactor
        self._on_event = on_event
        self._buffer = bytearray()
        self._first_line: Future = context.reactor.future()
        command = _command(context.settings.boot_bundle)
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
        try:
            self.pid = _fork(command, (theirs.fileno(), *streams))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control: socket | None = ours
        self.ended: Future = context.reaper.watch(self.pid)
        self.ended.then(lambda _: self._read_last_words())
        ours.setblocking(False)
        context.reactor.watch(ours.fileno(), READABLE, self._readable)
        try:
            boot_record.write(record, self.pid)
        except OSError:
            os.kill(self.pid, SIGKILL)
            raise

    async def run(self, order: dict[str, Any], request_id: str) -> int:
        """Send the order and return the container's pid; raise ``Failure`` with boot's own reason."""
        self._send(order)
        answer = await self._first_line
        match answer:
            case {"pid": int(pid)} if pid > 0:
                return pid
            case {"error": dict(error)}:
                raise refusal(_reason(error), request_id)
            case _:
                raise refusal(BOOT_FAILED, request_id)

    async def stop(self) -> None:
        """End the program, which ends what is left of its container; by force when it takes too long."""
        self._send({"stop": True})
        self._hang_up()
        try:
            await within(self._reactor, _STOP_S, self.ended)
        except DeadlineExceeded:
            log("boot-killed", pid=self.pid)
            os.kill(self.pid, SIGKILL)
            await self.ended

    def _send(self, message: dict[str, Any]) -> None:
        if self._control is None:
            return
        try:
            # A line fits into an empty socket buffer, and boot reads nothing else.
            self._control.send(dumps(message) + b"\n")
        except OSError as error:
            log("boot-control-failed", pid=self.pid, error=str(error))

    def _hang_up(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            self._reactor.forget(control.fileno())
            control.close()
        self._first_line.resolve(None)

    def _read_last_words(self) -> None:
        """Read what is left: the news of the end may overtake an error that was written before it."""
        self._readable(READABLE)
        self._hang_up()

    def _readable(self, _events: int) -> None:
        if self._control is None:
            return
        try:
            data = self._control.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        if not data or len(self._buffer) > _MAX_LINE_BYTES:
            self._hang_up()
            return
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            self._line(bytes(line))

    def _line(self, line: bytes) -> None:
        try:
            message = loads(line)
        except InvalidJson:
            log("boot-said-nonsense", pid=self.pid)
            return
        if not self._first_line.done:
            self._first_line.resolve(message)
        elif isinstance(message, dict):
            self._on_event(message)


def _reason(error: dict[str, Any]) -> Reason:
    code, stage, summary, remedy = (
        str(error.get(name, "")) for name in ("code", "stage", "summary", "remedy")
    )
    return Reason(UNKNOWN, code or BOOT_FAILED.code, stage or BOOT_FAILED.stage, summary, remedy)


def _command(bundle: str) -> list[str]:
    """Return the program and its arguments as seen from outside; raise ``InvalidBundle``."""
    description = read_bundle(bundle)
    rootfs = f"{bundle}/rootfs"
    arguments = [rootfs + part if part.startswith("/") else part for part in description["args"]]
    if description.get("loader"):
        library_path = f"{rootfs}/usr/lib/enclave-cc/lib"
        return [rootfs + description["loader"], "--library-path", library_path, *arguments]
    return arguments


def _fork(command: list[str], descriptors: Sequence[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(command, descriptors)
    except BaseException as error:  # noqa: BLE001 - the child must never return into the shim's loop
        log("boot-exec-failed", error=str(error))
    os._exit(127)


def _become(command: list[str], descriptors: Sequence[int]) -> None:
    import fcntl  # noqa: PLC0415 - only the child needs it

    for number in (SIGPIPE, SIGCHLD, SIGINT, SIGTERM):
        signal(number, SIG_DFL)
    pthread_sigmask(SIG_SETMASK, ())
    unshare_mounts()
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for descriptor in descriptors]
    for target, descriptor in enumerate(moved, _CONTROL):
        os.dup2(descriptor, target)
    # What boot says on 1 and 2 joins the shim's own log.
    os.dup2(2, 1)
    os.execve(command[0], command, _ENVIRONMENT)  # noqa: S606 - no shell is wanted here
