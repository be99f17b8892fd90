"""
HTTP as registries need it: bounded answers, no surprises, failures in this project's words.

TLS is required except for the hosts that the caller listed by name. Nothing is followed, decoded
or retried by itself.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as failures

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

_CONNECT_TIMEOUT_S: Final = 10.0
_POOLED_HOSTS: Final = 8
_POOLED_CONNECTIONS: Final = 8
_READ_BYTES: Final = 64 << 10

_NOT_FOUND: Final = 404
_DENIED: Final = frozenset({401, 403})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class RegistryHttp:
    """A connection pool with rules."""

    def __init__(self, *, insecure_http: frozenset[str], ca_pem: str, deadline_s: float) -> None:
        self._insecure_http = insecure_http
        self._deadline_s = deadline_s
        self._pool = urllib3.PoolManager(
            num_pools=_POOLED_HOSTS,
            maxsize=_POOLED_CONNECTIONS,
            retries=False,
            timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, deadline_s), read=deadline_s),
            ssl_context=_tls(ca_pem),
        )

    def close(self) -> None:
        """Drop the pooled connections."""
        self._pool.clear()

    def scheme(self, host: str) -> str:
        """Return the scheme for a host: TLS unless it was listed."""
        return "http" if host in self._insecure_http else "https"

    def require_allowed(self, url: str) -> None:
        """Raise ``InvalidInputError`` (registry-insecure) for a URL that would leave TLS unasked."""
        try:
            parts = urlsplit(url)
            host = parts.netloc
        except ValueError as error:
            raise _invalid("a malformed URL") from error
        if "@" in host or not host:
            raise _invalid("a URL without a plain host")
        if parts.scheme != self.scheme(host):
            raise InvalidInputError(
                "registry-insecure",
                "the registry asks for an unprotected connection",
                stage=Stage.FETCH,
                detail=f"{parts.scheme}://{host}"[:512],
            )

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> BaseHTTPResponse:
        """Send one request and return the answer with its body unread."""
        self.require_allowed(url)
        try:
            return self._pool.request(
                method,
                url,
                headers=dict(headers),
                body=body,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except failures.SSLError as error:
            raise InvalidInputError(
                "registry-tls-refused",
                "the registry's TLS certificate was refused",
                stage=Stage.FETCH,
                detail=str(error)[:512],
            ) from error
        except (failures.LocationParseError, failures.LocationValueError, UnicodeError) as error:
            raise _invalid("a malformed URL") from error
        except (failures.HTTPError, OSError) as error:
            raise _unavailable(str(error)) from error

    def expect(self, response: BaseHTTPResponse, statuses: Collection[int], *, stage: Stage) -> None:
        """Raise unless the status is one of those expected."""
        status = response.status
        if status in statuses:
            return
        detail = f"HTTP status {status}"
        if status == _NOT_FOUND:
            raise InvalidInputError(
                "image-not-found", "the registry does not have the image", stage=stage, detail=detail
            )
        if status in _DENIED:
            raise InvalidInputError(
                "registry-access-denied",
                "the registry denies access to the image",
                stage=stage,
                detail=detail,
            )
        if status in _TRANSIENT:
            raise _unavailable(detail)
        raise _invalid(detail)

    def chunks(self, response: BaseHTTPResponse, chunk_bytes: int) -> Iterator[bytes]:
        """Read a body in whatever pieces it arrives, none larger than ``chunk_bytes``."""
        try:
            while chunk := response.read1(chunk_bytes, decode_content=False):
                yield chunk
        except (failures.HTTPError, OSError) as error:
            raise _unavailable(str(error)) from error

    def read_bounded(self, response: BaseHTTPResponse, max_bytes: int) -> bytes:
        """Read a whole body that has to be small and has to arrive within the deadline."""
        deadline = time.monotonic() + self._deadline_s
        body = bytearray()
        for chunk in self.chunks(response, _READ_BYTES):
            body += chunk
            if len(body) > max_bytes:
                raise _invalid(f"an answer of more than {max_bytes} bytes")
            self.require_time(deadline)
        return bytes(body)

    def require_time(self, deadline: float) -> None:
        """Raise ``UnavailableError`` once a monotonic deadline has passed."""
        if time.monotonic() >= deadline:
            raise _unavailable("the answer took too long")


def _tls(ca_pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_pem:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInputError(
                "registry-ca-invalid",
                "the registry's CA certificate is malformed",
                stage=Stage.CONFIG,
                detail=str(error),
            ) from error
    return context


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "registry-response-invalid", "the registry's answer makes no sense", stage=Stage.FETCH, detail=detail
    )


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(
        "registry-unavailable", "the registry does not answer", stage=Stage.FETCH, detail=detail[:512]
    )
