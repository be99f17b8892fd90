"""``python -m enclave_cc.node.daemon --config FILE``: serves until it is told to stop."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.json_log import configure
from enclave_cc.node.daemon.serve import serve

_LOG: Final = logging.getLogger("enclave_cc.node.daemon")


def main() -> int:
    """Run the daemon; print one line of JSON when it serves."""
    parser = argparse.ArgumentParser(prog="enclave-cc-node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node's configuration file")
    arguments = parser.parse_args()
    configure()
    try:
        config = NodeConfig.read(arguments.config)
        serve(config, lambda: _announce(config))
    except EnclaveCcError as error:
        _LOG.error(
            "daemon-failed",
            extra={"fields": {"code": error.code, "summary": error.summary, "detail": error.detail}},
        )
        return error.exit_status
    return 0


def _announce(config: NodeConfig) -> None:
    ready = {
        "event": "ready",
        "snapshot_socket": str(config.snapshot_socket),
        "node_socket": str(config.node_socket),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
