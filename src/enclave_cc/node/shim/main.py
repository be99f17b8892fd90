"""The shim's entry: containerd's runtime-v2 command line, one action per call."""

from __future__ import annotations

import posix
import sys

from enclave_cc.node.shim.arguments import Arguments, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

VERSION: Final = "0.1.0"
RUNTIME: Final = "io.containerd.rune.v2"
_FAILED: Final = 1


def main(config_path: str) -> NoReturn:
    """Run one action and leave at once: interpreter shutdown is time that a pod waits for."""
    try:
        status = _act(sys.argv, config_path)
    except (ValueError, OSError) as error:
        posix.write(2, f"{sys.argv[0]}: {error}\n".encode())
        status = _FAILED
    posix._exit(status)  # noqa: SLF001 - what `os._exit` is


def _act(words: list[str], config_path: str) -> int:
    arguments = Arguments(words[1:])
    if arguments.get("v") or arguments.get("version"):
        posix.write(1, f"{words[0]}:\n  Version:  {VERSION}\n".encode())
        return 0
    if arguments.get("info"):
        return _info()
    if arguments.action == "start":
        from enclave_cc.node.shim.start import start  # noqa: PLC0415 - each action loads only itself

        return start(arguments, config_path)
    if arguments.action == "delete":
        from enclave_cc.node.shim.cleanup import delete  # noqa: PLC0415 - as above

        return delete(arguments, config_path)
    raise UsageError(f"unknown action {arguments.action!r}")


def _info() -> int:
    from enclave_cc.formats.protobuf import encode  # noqa: PLC0415 - as above
    from enclave_cc.node.shim.task_messages import RUNTIME_INFO  # noqa: PLC0415 - as above

    posix.write(1, encode(RUNTIME_INFO, {"name": RUNTIME, "version": {"version": VERSION}}))
    return 0
