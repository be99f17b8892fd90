"""Running runc: one program call per operation, its own words as the reason when it fails."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import os

from enclave_cc.node.shim.json_text import InvalidJson, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from enclave_cc.node.shim.reaper import Reaper

# runc's log of one call is a few lines; a reason needs no more.
_MAX_LOG_BYTES: Final = 1 << 16


class RuncFailed(Exception):  # noqa: N818 - reads as what happened
    """runc ended with an error; the text is the last one it logged."""

    @property
    def gone(self) -> bool:
        """Tell whether runc knows no such container."""
        return "does not exist" in str(self)


class Runc:
    """runc for the containers of one root directory and one log file."""

    def __init__(self, reaper: Reaper, program: str, root: str, log: str, *, systemd_cgroup: bool) -> None:
        self.program = program
        self.root = root
        self.log = log
        self.systemd_cgroup = systemd_cgroup
        self._reaper = reaper

    async def run(self, *arguments: str, descriptors: Sequence[int] = ()) -> None:
        """Run one command; ``descriptors`` become the container's 0, 1 and 2. Raises ``RuncFailed``."""
        command = [self.program, "--root", self.root, "--log", self.log, "--log-format", "json"]
        if self.systemd_cgroup:
            command.append("--systemd-cgroup")
        already = _size(self.log)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            exited = self._reaper.spawn(
                self.program, [*command, *arguments], os.environ, descriptors or (null, null, null)
            )
        except OSError as error:
            raise RuncFailed(f"{self.program}: {error.strerror}") from error
        finally:
            os.close(null)
        status = await exited
        if status:
            raise RuncFailed(_last_error(self.log, already) or f"exit status {status}")

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Delete a container; one that runc does not know counts as deleted."""
        try:
            await self.run("delete", *(("--force",) if force else ()), container_id)
        except RuncFailed as failed:
            if not failed.gone:
                raise


def read_pid(path: str) -> int:
    """Read a pid file that runc wrote; raise ``RuncFailed`` when there is none."""
    try:
        with open(path, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError) as error:
        raise RuncFailed("runc left no pid file") from error


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _last_error(path: str, offset: int) -> str:
    message = ""
    try:
        with open(path, "rb") as file:
            file.seek(max(offset, os.fstat(file.fileno()).st_size - _MAX_LOG_BYTES))
            for line in file:
                message = _error_of(line) or message
    except OSError:
        return message
    return message


def _error_of(line: bytes) -> str:
    try:
        entry = loads(line)
    except InvalidJson:
        return ""
    if not isinstance(entry, dict) or entry.get("level") != "error":
        return ""
    return str(entry.get("msg", ""))
