"""``python -m enclave_cc.trustee.broker --config FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.trustee.broker.server import serve
from enclave_cc.trustee.broker.settings import BrokerSettings


def main() -> int:
    """Run the broker; return its exit status."""
    parser = argparse.ArgumentParser(prog="enclave-cc-broker", description="the key broker")
    parser.add_argument("--config", type=Path, required=True, help="settings in TOML")
    try:
        settings = BrokerSettings.load(parser.parse_args().config)
        for warning in settings.warnings:
            sys.stderr.write(f"WARNING: {warning}\n")
        serve(settings, _ready)
    except EnclaveCcError as error:
        # Whoever starts the broker owns it, so the detail is for these eyes.
        sys.stderr.write(f"{error.summary}: {error.detail} [code={error.code}]; {error.remedy}\n")
        return error.exit_status
    return 0


def _ready(url: str) -> None:
    sys.stdout.write(f"enclave-cc broker ready at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
