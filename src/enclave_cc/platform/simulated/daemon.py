"""The platform daemon: opens state, socket and HTTP port, gives up root, serves until it is told to stop."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import logging
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.initdata import ALGORITHMS
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.platform.simulated.pcs_server import PcsServer
from enclave_cc.platform.simulated.platform import SimulatedPlatform
from enclave_cc.platform.simulated.service import PlatformService
from enclave_cc.platform.simulated.state import PlatformState
from enclave_cc.transport.ttrpc_server import TtrpcServer

if TYPE_CHECKING:
    from pathlib import Path

_LOG: Final = logging.getLogger(__name__)
# Any process may connect: identity comes from the record of its launch.
_SOCKET_MODE: Final = 0o666
# Every enclave of the node holds a connection.
_MAX_CONNECTIONS: Final = 1024
_REFRESH_S: Final = 6 * 3600
_LOADED_ON_FIRST_USE: Final = (
    "_strptime",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "linecache",
    "tokenize",
    "traceback",
)


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Where the daemon keeps its state and listens; `uid` to run as (None: as started)."""

    state: Path
    socket: Path
    pcs: tuple[str, int]
    uid: int | None = None
    ready_fd: int | None = None


def run(settings: DaemonSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    daemon = PlatformDaemon(settings)
    daemon.start()
    try:
        while not stopped.wait(_REFRESH_S):
            daemon.platform.collateral()
    finally:
        daemon.stop()


class PlatformDaemon:
    """Platform, service and HTTP server of one daemon."""

    def __init__(self, settings: DaemonSettings) -> None:
        self._settings = settings
        uid = os.geteuid() if settings.uid is None else settings.uid
        state = PlatformState(settings.state, uid=uid)
        self.platform = SimulatedPlatform(state, lambda: dt.datetime.now(dt.UTC))
        self._server = TtrpcServer(str(settings.socket), mode=_SOCKET_MODE, max_connections=_MAX_CONNECTIONS)
        self._server.add(PLATFORM_SERVICE, PlatformService(self.platform).handlers())
        self.pcs = PcsServer(settings.pcs, self.platform.collateral)

    def start(self) -> None:
        """Listen, give up root, say that we are ready."""
        self._server.start()
        if self._settings.uid is not None and os.geteuid() == 0:
            _become(self._settings.uid)
        self.pcs.start()
        _LOG.warning("simulated-platform-started", extra={"protection": "none from this machine's owner"})
        if self._settings.ready_fd is not None:
            os.write(self._settings.ready_fd, f"ready {self.pcs.url}\n".encode())
            os.close(self._settings.ready_fd)

    def stop(self) -> None:
        """Stop listening and forget all enclaves."""
        self._server.stop()
        self.pcs.stop()
        self.platform.enclaves.close()


def _become(uid: int) -> None:
    """Drop to an ordinary user in all threads; groups first, while it is still allowed."""
    _preload()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _preload() -> None:
    """Load what the standard library loads on first use: the user may be barred from Python's own files."""
    for name in _LOADED_ON_FIRST_USE:
        importlib.import_module(name)
    for algorithm in ALGORITHMS:
        hashlib.new(algorithm)
