"""
Boot's part around one mounted sealed image: `python -m bench.rootfs_server`, see rootfs_sealed_store.py.

It forks the server as boot does, reads an order on standard input, lets the server try out how to mount,
says which process that is, waits for a line, has the image mounted, says so, and takes everything down
when its input ends.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from enclave_cc.enclave.rootfs.server.process import fork_server

if TYPE_CHECKING:
    from enclave_cc.enclave.rootfs.server.client import RootfsServer
    from enclave_cc.enclave.rootfs.server.process import ServerProcess

POD, CONTAINER, IMAGE = "pod", "container", "image"


def main() -> int:
    """Fork first: what is imported by then is the server's too."""
    return _boot(fork_server())


def _boot(process: ServerProcess) -> int:
    import json  # noqa: PLC0415 - the fork comes first
    from pathlib import Path  # noqa: PLC0415 - as above

    from enclave_cc.enclave.rootfs.server.client import RootfsServer  # noqa: PLC0415 - as above

    order = json.loads(sys.stdin.readline())
    server = RootfsServer(process)
    server.prepare(Path(order["work"]), candidates=tuple(order["candidates"]))
    print(process.pid, flush=True)
    if sys.stdin.readline():
        print(_open(server, order), flush=True)
        sys.stdin.readline()
    server.close()
    return 0


def _open(server: RootfsServer, order: dict[str, Any]) -> str:
    from pathlib import Path  # noqa: PLC0415 - the fork comes first

    from enclave_cc.core.secret import Secret  # noqa: PLC0415 - as above
    from enclave_cc.formats.rootfs_options import RootfsOptions  # noqa: PLC0415 - as above
    from enclave_cc.formats.sealed.manifest import Binding  # noqa: PLC0415 - as above

    return server.open(
        Path(order["directory"]),
        fdk=Secret(bytes.fromhex(order["fdk"])),
        manifest_sha256=bytes.fromhex(order["manifest_sha256"]),
        binding=Binding(POD, CONTAINER, IMAGE),
        mountpoint=Path(order["mountpoint"]),
        work=Path(order["work"]),
        options=RootfsOptions(decrypt_to_memory=order["decrypt_to_memory"]),
    )


if __name__ == "__main__":
    sys.exit(main())
