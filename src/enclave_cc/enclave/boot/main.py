"""
The app enclave's program: first the process that will serve the root file system, then everything else.

The server is forked when only what it needs itself is loaded. So it is small, it makes itself ready while
this process waits for its order and proves itself, and no byte of what boot learns later is in it.
"""

from __future__ import annotations

from enclave_cc.enclave.hardening import harden_process
from enclave_cc.enclave.rootfs.server.process import fork_server


def main() -> int:
    """Fork, then start one container; see ``steps``."""
    harden_process(may_gain_privileges=True)
    process = fork_server()
    from enclave_cc.enclave.boot.steps import run  # noqa: PLC0415 - the fork comes first

    return run(process)
