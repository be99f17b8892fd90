"""Command line of the platform daemon: `python -m enclave_cc.platform.simulated`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.platform.simulated.daemon import DaemonSettings, run


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments` and serve; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="enclave_cc.platform.simulated",
        description="Simulated SGX platform: real structures, no protection from this machine's owner.",
    )
    parser.add_argument("--state", type=Path, required=True, help="directory of the platform's keys")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to serve")
    parser.add_argument("--pcs", type=_address, required=True, help="loopback address:port for collateral")
    parser.add_argument("--uid", type=int, help="user to run as after everything is open")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a line when the daemon serves")
    parsed = parser.parse_args(arguments)
    settings = DaemonSettings(parsed.state, parsed.socket, parsed.pcs, parsed.uid, parsed.ready_fd)
    try:
        run(settings)
    except EnclaveCcError as error:
        sys.stderr.write(f"{error.host_line('-')}\n{error.detail}\n")
        return error.exit_status
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
