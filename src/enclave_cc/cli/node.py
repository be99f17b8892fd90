"""`enclave-cc node`: the node's own daemon, and the shim that containerd starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import enclave_cc
from enclave_cc.cli.output import show
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.json_log import configure
from enclave_cc.node.daemon.serve import serve
from enclave_cc.node.shim.launcher import write_shim_launcher

app = App(name="node", help="Run the node's daemon and make its shim.")

_ConfigOption = Annotated[Path, Parameter(name="--config", help="The node's configuration in JSON.")]


@app.command
def daemon(*, config: _ConfigOption) -> None:
    """
    Run the proxy snapshotter, image resolver and ciphertext cache until terminated.

    Example: `enclave-cc node daemon --config /etc/enclave-cc/node.json`
    """
    configure()
    serve(NodeConfig.read(config), lambda: show("node daemon ready"))


@app.command
def launcher(path: Path, *, config: _ConfigOption) -> None:
    """
    Write the script that containerd starts as shim.

    It must be called `containerd-shim-rune-v2` and lie in containerd's PATH.

    Example: `enclave-cc node launcher /usr/local/bin/containerd-shim-rune-v2 --config node.json`
    """
    NodeConfig.read(config)
    source_root = Path(enclave_cc.__file__).resolve().parent.parent
    write_shim_launcher(path, config.resolve(), Path(sys.executable), source_root)
    show(f"wrote {path}")
