"""
Start the agent enclave: harden the process, serve the pod's socket, end on SIGTERM.

Its configuration is the measured initdata; there are no switches, no environment and no arguments.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.enclave.agent.event_log import EventLog, FaultHandler
from enclave_cc.enclave.agent.identity import AgentPaths
from enclave_cc.enclave.agent.serve import compose
from enclave_cc.enclave.hardening import harden_process
from enclave_cc.platform.simulated.driver import SimulatedProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.platform.port import Processor


_COLLECT_AFTER_OBJECTS: Final = 100_000


def main() -> int:
    """Serve until SIGTERM; return the exit status of a refusal if the agent must not serve."""
    harden_process(may_gain_privileges=False)
    paths = AgentPaths.below(Path("/"))
    log = EventLog(sys.stderr, clock=time.time)
    # Without a handler of ours Python would write texts and tracebacks where the host reads.
    logging.basicConfig(handlers=[FaultHandler(log)])
    threading.excepthook = lambda fault: log.event("fault", at="thread", error=fault.exc_type.__name__)
    return serve(paths, lambda: SimulatedProcessor(str(paths.platform_socket)), log)


def spare_collector() -> None:
    """
    Let the garbage collector look less often, and not at what is loaded now, which stays.

    The tree of an image is hundreds of thousands of objects without a cycle; looking for one with every
    few hundred of them would cost more than sealing does.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)


def serve(paths: AgentPaths, open_processor: Callable[[], Processor], log: EventLog) -> int:
    """Compose, start, wait for SIGTERM or SIGINT, stop."""
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    try:
        agent = compose(paths, open_processor(), log)
        agent.server.start()
    except EnclaveCcError as error:
        log.event("not-serving", code=error.code, stage=str(error.stage))
        return error.exit_status
    spare_collector()
    log.event("serving")
    signal.sigwait(stop)
    agent.stop()
    log.event("stopped")
    return 0
