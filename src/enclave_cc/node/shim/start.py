"""
``start``: bind the pod's socket, leave a daemon behind it, print its address.

containerd reads standard output and standard error to their end, so the daemon must hold
neither, and nothing but the address may be written. Up to the fork this uses ``posix`` instead of
``os``, whose import is a tenth of the time that containerd waits.
"""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

import posix
import sys

from enclave_cc.node.shim.address import group_of, listen, socket_path
from enclave_cc.node.shim.arguments import UsageError
from enclave_cc.node.shim.json_text import InvalidJson, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Final, NoReturn

    from enclave_cc.node.shim.arguments import Arguments

_MAX_SPEC_BYTES: Final = 2 << 20
_MAX_OOM_SCORE: Final = 1000


def start(arguments: Arguments, config_path: str) -> int:
    """Print the address of the pod's shim, a new one or the one that runs."""
    namespace, container_id = arguments.require("namespace"), arguments.require("id")
    path = socket_path(arguments.get("address"), namespace, group_of(_annotations(), container_id))
    listener = listen(path)
    address = f"unix://{path}".encode()
    _write_address(address)
    if listener is not None:
        pid = posix.fork()
        if not pid:
            _become_daemon(listener, path, namespace, config_path)
        _give_oom_score(pid)
    posix.write(1, address)
    return 0


def _become_daemon(listener: socket, path: str, namespace: str, config_path: str) -> NoReturn:
    try:
        _detach()
        from enclave_cc.node.shim.daemon import serve  # noqa: PLC0415 - the parent prints before it is loaded

        serve(listener, path, namespace, config_path)
    finally:
        # Reached only when the daemon could not even be loaded; the traceback belongs into the log.
        sys.excepthook(*sys.exc_info())
        posix._exit(1)  # noqa: SLF001 - what `os._exit` is


def _annotations() -> dict[str, str]:
    """Read the bundle's annotations; containerd made the bundle the working directory."""
    try:
        with open("config.json", "rb") as file:
            spec = loads(file.read(_MAX_SPEC_BYTES))
    except (OSError, InvalidJson) as error:
        raise UsageError(f"config.json: {error}") from error
    annotations = spec.get("annotations") if isinstance(spec, dict) else None
    return annotations if isinstance(annotations, dict) else {}


def _write_address(address: bytes) -> None:
    temporary = f".address.{posix.getpid()}"
    with open(
        posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644), "wb"
    ) as file:
        file.write(address)
    posix.rename(temporary, "address")


def _detach() -> None:
    posix.setpgid(0, 0)
    null = posix.open("/dev/null", posix.O_RDWR)
    try:
        # Read and write, so that the pipe does not break when containerd restarts.
        log = posix.open("log", posix.O_RDWR | posix.O_NONBLOCK)
    except OSError:
        log = null
    for target, source in ((0, null), (1, null), (2, log)):
        posix.dup2(source, target)
    for descriptor in {null, log}:
        posix.close(descriptor)


def _give_oom_score(pid: int) -> None:
    """Let the kernel take the shim a little before containerd."""
    try:
        with open(f"/proc/{posix.getppid()}/oom_score_adj", "rb") as file:
            score = int(file.read())
        with open(f"/proc/{pid}/oom_score_adj", "wb") as file:
            file.write(b"%d" % min(score + 1, _MAX_OOM_SCORE))
    except OSError:
        return
