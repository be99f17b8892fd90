"""
Start one container in its app enclave: docs/architecture.md, steps 9 to 12.

(1) Wait for the order, which comes after the platform has measured this process. (2) Check the owner's
initdata. (3) Prove ourselves to the agent, and the agent to us. (4) Let the server mount. (5) Start.
(6) Watch over both until the shim hangs up.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, InternalError, Stage
from enclave_cc.enclave.boot.agent_token import AgentToken
from enclave_cc.enclave.boot.attest import AgentLink
from enclave_cc.enclave.boot.container import close_streams
from enclave_cc.enclave.boot.control import Control
from enclave_cc.enclave.boot.launch import launch
from enclave_cc.enclave.boot.supervise import supervise
from enclave_cc.enclave.measured_initdata import read_initdata
from enclave_cc.enclave.rootfs.server.client import RootfsServer
from enclave_cc.platform.simulated.driver import SimulatedProcessor

if TYPE_CHECKING:
    from enclave_cc.enclave.boot.control import BootOrder
    from enclave_cc.enclave.rootfs.server.process import ServerProcess

_CONTROL: Final = 3


def run(process: ServerProcess) -> int:
    """Run from order to end; the exit status is that of the error class, zero after an ordinary stop."""
    control = Control(socket.socket(fileno=_CONTROL))
    try:
        with ExitStack() as cleanup:
            server = RootfsServer(process)
            cleanup.callback(server.close)
            order = control.read_order()
            if order is not None:
                _run(control, order, server, cleanup)
    except EnclaveCcError as error:
        close_streams()
        control.failed(error)
        return error.exit_status
    except Exception as error:  # noqa: BLE001  # outermost boundary: the shim must hear of every end
        fault = InternalError("internal", "the boot program failed", stage=Stage.RUN)
        sys.stderr.write(f"boot: {type(error).__name__}\n")
        control.failed(fault)
        return fault.exit_status
    return 0


def _run(control: Control, order: BootOrder, server: RootfsServer, cleanup: ExitStack) -> None:
    server.prepare(order.work)
    link = _attest(order)
    cleanup.callback(link.close)
    try:
        with server.explaining():
            container, pid = launch(order, link, server, cleanup)
    except EnclaveCcError as error:
        link.refused(error)
        raise
    control.started(pid)
    supervise(control, server, container, link)


def _attest(order: BootOrder) -> AgentLink:
    processor = SimulatedProcessor(order.platform_socket)
    initdata = read_initdata(order.initdata, processor.measured_initdata())
    token = AgentToken(initdata.settings, tee=str(processor.tee), clock=time.time)
    return AgentLink.connect(
        order.agent_socket,
        processor,
        pod_uid=order.pod_uid,
        container_id=order.container_id,
        verify_token=token.verify,
    )
