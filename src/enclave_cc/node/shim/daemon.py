"""The shim after ``start``: composes loop, services and reaper, and serves until it is shut down."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH108

from __future__ import annotations

import gc
import os

from enclave_cc.node.shim.address import DIRECTORY
from enclave_cc.node.shim.context import Context
from enclave_cc.node.shim.events import EventPublisher
from enclave_cc.node.shim.linux import become_subreaper
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.reactor import Reactor
from enclave_cc.node.shim.reaper import Reaper
from enclave_cc.node.shim.rpc_server import RpcServer
from enclave_cc.node.shim.settings import InvalidSettings, Settings
from enclave_cc.node.shim.signals import SIG_IGN, SIGINT, SIGPIPE, SIGTERM, signal
from enclave_cc.node.shim.task_messages import TASK_V2, TASK_V3
from enclave_cc.node.shim.task_service import CANCELLABLE, TaskService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Final, NoReturn

_NAME: Final = "shim-rune-v2"
_FLUSH_S: Final = 0.02
_LAST_EVENTS_S: Final = 5.0


def serve(listener: socket, path: str, namespace: str, config_path: str) -> NoReturn:
    """Serve the pod; never returns into the program that forked."""
    status = 1
    try:
        _serve(listener, namespace, config_path)
        status = 0
    except InvalidSettings as error:
        log("settings-invalid", error=str(error))
    except BaseException as error:  # noqa: BLE001 - the daemon's outermost boundary, after a fork
        log("shim-failed", error=f"{type(error).__name__}: {error}")
    try:
        os.unlink(path)
    finally:
        os._exit(status)


def _serve(listener: socket, namespace: str, config_path: str) -> None:
    settings = Settings.read(config_path)
    become_subreaper(_NAME)
    reactor = Reactor()
    for number, handler in (
        (SIGPIPE, SIG_IGN),
        (SIGINT, SIG_IGN),
        (SIGTERM, lambda *_: setattr(reactor, "stopped", True)),
    ):
        signal(number, handler)
    events = EventPublisher(reactor, os.environ.get("TTRPC_ADDRESS", ""), namespace)
    context = Context(
        reactor, Reaper(reactor), events, settings, namespace=namespace, socket_directory=DIRECTORY
    )
    service = TaskService(context, lambda: _wind_up(reactor, events))
    server = RpcServer(reactor, listener, CANCELLABLE)
    for interface in (TASK_V2, TASK_V3):
        server.add(interface, service.handlers())
    # What is loaded stays; the collector need not look at it again, and fork copies fewer pages.
    gc.freeze()
    reactor.run()


def _wind_up(reactor: Reactor, events: EventPublisher) -> None:
    """Stop once the reply is on its way and containerd has the last events, or does not want them."""

    def stop_when_idle() -> None:
        if events.idle:
            reactor.stopped = True
        else:
            reactor.later(_FLUSH_S, stop_when_idle)

    def stop() -> None:
        reactor.stopped = True

    reactor.later(_FLUSH_S, stop_when_idle)
    reactor.later(_LAST_EVENTS_S, stop)
