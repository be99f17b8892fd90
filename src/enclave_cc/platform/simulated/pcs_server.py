"""Serves the simulated platform's collateral over HTTP in the shape of Intel's PCS v4, on loopback only."""

from __future__ import annotations

import http.server
import ipaddress
import threading
import urllib.parse
from typing import TYPE_CHECKING, Final

from enclave_cc.platform.simulated.pki import SIMULATED_FMSPC

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from enclave_cc.formats.dcap.collateral import Collateral

    Answer = tuple[str, bytes, dict[str, str]]

_PREFIX: Final = "/sgx/certification/v4/"
_MAX_CONNECTIONS: Final = 16
_READ_TIMEOUT_S: Final = 5


class PcsServer:
    """Listens from construction, answers from `start` to `stop`."""

    def __init__(self, address: tuple[str, int], collateral: Callable[[], Collateral]) -> None:
        """ValueError unless `address` is a loopback address."""
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise ValueError("collateral is served on loopback only")
        self._server = _Server(address, collateral)

    @property
    def url(self) -> str:
        """Base URL for a PCS client."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Answer in the background."""
        threading.Thread(target=self._server.serve_forever, name="simulated-pcs", daemon=True).start()

    def stop(self) -> None:
        """Stop answering and close."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], collateral: Callable[[], Collateral]) -> None:
        self.collateral = collateral
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client: object) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client: object
    ) -> None:
        try:
            super().process_request_thread(request, client)
        finally:
            self._slots.release()


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _READ_TIMEOUT_S
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: the requests are public and of no interest."""

    def do_GET(self) -> None:
        """Answer one of the four documents, or 404."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        answer = _answer(url.path.removeprefix(_PREFIX), query, self.server.collateral)
        if answer is None:
            self.send_error(404)
            return
        kind, body, headers = answer
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _answer(path: str, query: dict[str, str], source: Callable[[], Collateral]) -> Answer | None:
    match path:
        case "tcb" if query.get("fmspc", "").upper() == SIMULATED_FMSPC.hex().upper():
            collateral = source()
            body = _signed("tcbInfo", collateral.tcb_info, collateral.tcb_info_signature)
            return "application/json", body, _chain("TCB-Info", collateral.tcb_info_issuer_chain)
        case "qe/identity":
            collateral = source()
            body = _signed("enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature)
            return (
                "application/json",
                body,
                _chain("SGX-Enclave-Identity", collateral.qe_identity_issuer_chain),
            )
        case "pckcrl" if query.get("ca") == "processor":
            collateral = source()
            headers = _chain("SGX-PCK-CRL", collateral.pck_crl_issuer_chain)
            return "application/pkix-crl", collateral.pck_crl, headers
        case "rootcacrl":
            return "text/plain", source().root_ca_crl.hex().encode(), {}
        case _:
            return None


def _signed(name: str, text: str, signature: bytes) -> bytes:
    """Wrap the text byte for byte: the signature is over exactly these bytes."""
    return f'{{"{name}":{text},"signature":"{signature.hex()}"}}'.encode()


def _chain(name: str, pem: str) -> dict[str, str]:
    return {f"{name}-Issuer-Chain": urllib.parse.quote(pem)}
