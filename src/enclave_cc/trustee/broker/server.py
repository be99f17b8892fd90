"""The broker as a process: listens, says when it is ready, and stops in order."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import uvicorn

from enclave_cc.trustee.broker.app import build_app
from enclave_cc.trustee.broker.connection import BoundedConnection
from enclave_cc.trustee.policy.engine import PolicyEngine

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from enclave_cc.trustee.broker.settings import BrokerSettings

# Connections beyond this get an immediate answer that the server is busy.
_MAX_CONNECTIONS: Final = 256
_KEEP_ALIVE_S: Final = 30
# Requests in progress may finish; the slowest waits for a collateral fetch.
_GRACE_S: Final = 10


class BrokerServer(uvicorn.Server):
    """One listening broker; ``ready`` is called with its URL when the first request would be answered."""

    def __init__(self, settings: BrokerSettings, ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            build_app(settings),
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            http=BoundedConnection,
            ws="none",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        super().__init__(config)
        self._scheme = "http" if settings.tls_cert is None else "https"
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}")


def serve(settings: BrokerSettings, ready: Callable[[str], None]) -> None:
    """
    Serve until SIGTERM or SIGINT; return after requests in progress have been answered.

    Raise ``UnavailableError`` when policies cannot be evaluated on this machine.
    """
    engine = PolicyEngine(workers=1)
    try:
        engine.require_working()
    finally:
        engine.close()
    server = BrokerServer(settings, ready)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # The server takes these over while it runs, and hands the signal on to us when it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run()
