"""The simulated platform's `Processor`: asks the daemon over its socket.

Code inside an enclave uses this. It holds no key; what it may ask for is decided by the daemon from the
process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from enclave_cc.core.errors import InternalError, Stage, UnavailableError
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.sgx.keys import KeyName, KeyRequest
from enclave_cc.formats.sgx.report import Report, ReportBody
from enclave_cc.formats.sgx.structure import InvalidStructureError
from enclave_cc.platform.port import Tee
from enclave_cc.transport.ttrpc_client import TtrpcClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from enclave_cc.formats.sgx.report import TargetInfo

    T = TypeVar("T")


class SimulatedProcessor:
    """Implements `platform.port.Processor`. One connection, calls one after another; safe between threads."""

    tee = Tee.SGX_SIM

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._lock = threading.Lock()
        self._client: TtrpcClient | None = None
        self._identity: tuple[ReportBody, bytes] | None = None

    def identity(self) -> ReportBody:
        """Own identity, with zero report data."""
        return self._own()[0]

    def measured_initdata(self) -> bytes:
        """Digest of the initdata that is part of the own identity."""
        return self._own()[1]

    def report(self, target: TargetInfo, report_data: bytes) -> Report:
        """EREPORT."""
        answer = self._call("Report", {"target_info": target.pack(), "report_data": report_data})
        return _parse(Report.parse, answer["report"])

    def report_key(self, key_id: bytes) -> bytes:
        """EGETKEY(REPORT)."""
        return self.get_key(KeyRequest(KeyName.REPORT, key_id=key_id))

    def get_key(self, request: KeyRequest) -> bytes:
        """EGETKEY."""
        key: bytes = self._call("GetKey", {"key_request": request.pack()})["key"]
        return key

    def quote(self, report_data: bytes) -> bytes:
        """DCAP quote of version 3."""
        quote: bytes = self._call("Quote", {"report_data": report_data})["quote"]
        return quote

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    def _own(self) -> tuple[ReportBody, bytes]:
        """Ask once: a process has one identity for life."""
        if self._identity is None:
            answer = self._call("Identity", {})
            self._identity = (_parse(ReportBody.parse, answer["body"]), answer["initdata_digest"])
        return self._identity

    def _call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call the daemon; a connection that has gone stale (daemon restarted) is opened anew once."""
        with self._lock:
            reused = self._client is not None
            try:
                return self._call_once(method, request)
            except UnavailableError:
                if not reused:
                    raise
                return self._call_once(method, request)

    def _call_once(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        if self._client is None:
            self._client = TtrpcClient(self._path)
        try:
            return self._client.call(PLATFORM_SERVICE, method, request)
        except (UnavailableError, InternalError):
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _parse(parse: Callable[[bytes], T], data: bytes) -> T:
    try:
        return parse(data)
    except InvalidStructureError as error:
        raise InternalError(
            "internal", "the simulated platform answered nonsense", stage=Stage.PLATFORM, detail=str(error)
        ) from error
