"""
One runc container: created from an approved specification, killed, and deleted.

The container's standard streams are handed to runc and closed here at once, so that this process never
keeps a pipe of the workload open. runc's words go to the detail of an error, because they may quote the
image.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InternalError, InvalidInputError, Stage, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.enclave.boot.control import BootOrder

# The standard streams of the container, as the shim hands them over (see the node's boot contract).
STREAMS: Final = (4, 5, 6)
# runc answers in tens of milliseconds; a busy node may need seconds.
_RUNC_TIMEOUT_S: Final = 60
_MAX_LOG_BYTES: Final = 1 << 16
_MAX_PID_BYTES: Final = 32
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True)
class Container:
    """A container under the shim's runc root."""

    order: BootOrder

    def create(self, spec: dict[str, object]) -> int:
        """Create the container and return its pid; raise ``InvalidInputError`` if runc refuses."""
        order = self.order
        (order.work / "config.json").write_bytes(strict_json.canonical(spec))
        arguments = ["create", "--bundle", str(order.work), "--pid-file", str(order.pid_file)]
        if order.console_socket:
            arguments += ["--console-socket", order.console_socket]
        logged = _size(order.runc_log)
        try:
            result = self._run([*arguments, order.container_id], with_streams=not order.console_socket)
        finally:
            if not order.console_socket:
                close_streams()
        if result.returncode != 0:
            raise InvalidInputError(
                "container-create-failed",
                "runc could not create the container",
                stage=Stage.RUN,
                detail=_last_words(order.runc_log, logged),
            )
        return _read_pid(order.pid_file)

    def kill(self) -> None:
        """End the container's processes; one that is gone already is no error."""
        self._run(["kill", "--all", self.order.container_id, "KILL"])

    def delete(self) -> None:
        """Remove what is left of the container; one that runc does not know is no error."""
        self._run(["delete", "--force", self.order.container_id])

    def _run(self, arguments: list[str], *, with_streams: bool = False) -> subprocess.CompletedProcess[bytes]:
        order = self.order
        command = [order.runc, "--root", order.runc_root, "--log", order.runc_log, "--log-format", "json"]
        if order.systemd_cgroup:
            command.append("--systemd-cgroup")
        streams = STREAMS if with_streams else (subprocess.DEVNULL,) * len(STREAMS)
        try:
            return subprocess.run(
                [*command, *arguments],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                env=_ENVIRONMENT,
                cwd="/",
                timeout=_RUNC_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError("runc-timeout", "runc did not answer", stage=Stage.RUN) from error
        except OSError as error:
            raise InternalError(
                "runc-missing", "runc could not be run", stage=Stage.RUN, detail=str(error)
            ) from error


def close_streams() -> None:
    """Close the container's standard streams in this process; they may be closed already."""
    for descriptor in STREAMS:
        try:
            os.close(descriptor)
        except OSError:
            continue


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a text from the order
    except OSError:
        return 0


def _last_words(path: str, offset: int) -> str:
    """Return what runc logged since ``offset``, cut."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a text from the order
            file.seek(offset)
            return file.read(_MAX_LOG_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _read_pid(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int(file.read(_MAX_PID_BYTES))
    except (OSError, ValueError) as error:
        raise InternalError("runc-missing", "runc left no pid", stage=Stage.RUN, detail=str(error)) from error
