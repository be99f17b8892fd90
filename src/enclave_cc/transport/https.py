"""
HTTPS to one pinned peer: bounded in size and time, no redirects, no retries, no environment.

Moves bytes and maps failures; what a status means is the caller's.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import urllib3
from urllib3.exceptions import HTTPError

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.transport.patience.interruption import OpenSockets

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTIONS: Final = 4
_CHUNK_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers with lower-case names, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpsPeer:
    """One peer at one URL; its certificate is checked against ``ca_pem`` alone, or the system's roots."""

    def __init__(
        self,
        url: str,
        *,
        ca_pem: str = "",
        timeout_s: float,
        max_answer_bytes: int,
        insecure_http: bool = False,
    ) -> None:
        self._url = _checked(url, insecure_http=insecure_http)
        self._max_answer_bytes = max_answer_bytes
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=_CONNECTIONS,
            ssl_context=_context(ca_pem),
            timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, timeout_s), total=timeout_s),
            retries=False,
        )
        # Connecting and the head of an answer are bounded as a whole, too.
        OpenSockets().watch(self._pool)

    def request(self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str]) -> HttpAnswer:
        """Send one request; raise ``UnavailableError`` without an answer, ``RefusedError`` for a stranger."""
        try:
            response = self._pool.request(
                method,
                self._url + path,
                body=body or None,
                headers=dict(headers),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                return self._answer(response)
            finally:
                response.release_conn()
        except HTTPError as error:
            raise _failure(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _answer(self, response: urllib3.BaseHTTPResponse) -> HttpAnswer:
        """Read the body, bounded as a whole: a peer that sends a byte now and then is not waited for."""
        body, deadline = bytearray(), time.monotonic() + self._timeout_s
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > self._max_answer_bytes or time.monotonic() > deadline:
                response.close()
                raise UnavailableError(
                    "unavailable", "a peer did not answer", stage=Stage.FETCH, detail="too much or too slow"
                )
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status, headers, bytes(body))


def _checked(url: str, *, insecure_http: bool) -> str:
    schemes = ("https://", "http://") if insecure_http else ("https://",)
    if not url.startswith(schemes):
        raise InvalidInputError(
            "url-not-https", "an address is not an https URL", stage=Stage.CONFIG, detail=url[:200]
        )
    return url.rstrip("/")


def _context(ca_pem: str) -> ssl.SSLContext:
    # `create_default_context` would write session keys to where the environment says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_pem:
            context.load_verify_locations(cadata=ca_pem)
        else:
            context.load_default_certs()
    except ssl.SSLError as error:
        raise InvalidInputError(
            "tls-ca-invalid", "a CA certificate cannot be read", stage=Stage.CONFIG, detail=str(error)
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _failure(error: HTTPError) -> RefusedError | UnavailableError:
    """Tell a peer that is somebody else from one that is away."""
    if isinstance(error, urllib3.exceptions.SSLError) and isinstance(
        error.args[0] if error.args else None, ssl.SSLCertVerificationError
    ):
        return RefusedError(
            "tls-peer-refused", "a peer's certificate is not trusted", stage=Stage.FETCH, detail=str(error)
        )
    return UnavailableError(
        "unavailable", "a peer did not answer", stage=Stage.FETCH, detail=str(error)[:500]
    )
