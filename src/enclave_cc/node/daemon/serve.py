"""Runs the daemon in the foreground until it is told to stop."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from enclave_cc.node.daemon.composition import NodeDaemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.node.config import NodeConfig


def serve(config: NodeConfig, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; call ``ready`` once both sockets answer."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with NodeDaemon(config):
        ready()
        stopped.wait()
