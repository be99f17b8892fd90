"""
HTTP as registries need it: bounded answers, no surprises, failures in this project's words.

TLS is required except for the hosts that the caller listed by name. Nothing is followed, decoded
or retried by itself, and nothing is taken from the environment.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as failures

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.transport.patience.backoff import BusyError
from enclave_cc.transport.patience.watchdog import cut_off
from enclave_cc.transport.registry.pools import RegistryPools

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from enclave_cc.formats.registries.proxies import Proxies
    from enclave_cc.transport.patience.deadline import Patience

_CONNECT_TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 64 << 10
_LONGEST_DELAY_DIGITS: Final = 9

_CONTROL: Final = re.compile(r"^ |[\x00-\x1f\x7f]")

_NOT_FOUND: Final = 404
_DENIED: Final = frozenset({401, 403})
_PROXY_AUTHENTICATION: Final = 407
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class RegistryHttp:
    """Connection pools with rules; ``request_s`` bounds the wait for a peer that says nothing."""

    def __init__(
        self,
        *,
        insecure_http: frozenset[str],
        ca_pem: str,
        proxies: Proxies,
        request_s: float,
        patience: Patience,
    ) -> None:
        self._insecure_http = insecure_http
        self._request_s = request_s
        self._patience = patience
        self._pools = RegistryPools(ca_pem, proxies)

    def close(self) -> None:
        """Drop the pooled connections."""
        self._pools.close()

    def interrupt(self) -> None:
        """End what waits for a peer."""
        self._pools.interrupt()

    def scheme(self, host: str) -> str:
        """Return the scheme for a host: TLS unless it was listed."""
        return "http" if host in self._insecure_http else "https"

    def require_allowed(self, url: str) -> None:
        """Raise ``InvalidInputError`` (registry-insecure) for a URL that would leave TLS unasked."""
        try:
            parts = urlsplit(url)
            host = parts.netloc
            # Reading the port checks it.
            _ = parts.port
        except ValueError as error:
            raise _invalid("a malformed URL") from error
        # Some parsers drop these, so that what is checked here would not be what is asked.
        if _CONTROL.search(url):
            raise _invalid("a URL with control characters")
        if "@" in host or not host:
            raise _invalid("a URL without a plain host")
        if parts.scheme not in {"https", self.scheme(host)}:
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
        self._patience.require()
        remaining_s = self._patience.deadline.at_most(self._request_s).remaining_s
        try:
            return self._pools.for_url(url).request(
                method,
                url,
                headers=dict(headers),
                body=body,
                timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, remaining_s), read=remaining_s),
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
        except failures.ProxyError as error:
            raise _proxy_failed(str(error)) from error
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
            raise _busy(detail, response.headers.get("Retry-After", ""))
        if status == _PROXY_AUTHENTICATION:
            raise _proxy_failed(detail)
        raise _invalid(detail)

    def pieces(self, response: BaseHTTPResponse, piece_bytes: int, patience: Patience) -> Iterator[bytes]:
        """
        Read a long body in pieces of the same size, each received into memory of its own and never copied.

        The wait for a piece ends with ``patience``, also in the middle.
        """
        with cut_off(patience, lambda: _shut(response)):
            try:
                while piece := response.read(piece_bytes, decode_content=False):
                    # What comes out of a socket that was shut is not what the peer sent.
                    patience.require()
                    yield piece
                patience.require()
            except (failures.HTTPError, OSError) as error:
                patience.require()
                raise _unavailable(str(error)) from error

    def read_bounded(self, response: BaseHTTPResponse, max_bytes: int) -> bytes:
        """Read a whole body that has to be small and has to arrive within the time of one request."""
        patience = self._patience.at_most(self._request_s)
        body = bytearray()
        try:
            for piece in self.pieces(response, _READ_BYTES, patience):
                body += piece
                if len(body) > max_bytes:
                    raise _invalid(f"an answer of more than {max_bytes} bytes")
        except UnavailableError as error:
            if error.code != "deadline-exceeded":
                raise
            # Another attempt may be quicker, if the whole work has time left.
            self._patience.require()
            raise _unavailable("the answer took too long") from error
        return bytes(body)


def _shut(response: BaseHTTPResponse) -> None:
    # The answer may have come to its end by itself meanwhile.
    with suppress(OSError, RuntimeError, ValueError):
        response.shutdown()


def _busy(detail: str, retry_after: str) -> BusyError:
    return BusyError(
        "registry-unavailable",
        "the registry does not answer",
        stage=Stage.FETCH,
        detail=f"{detail}, Retry-After: {retry_after[:64]}" if retry_after else detail,
        retry_after_s=_delay(retry_after),
    )


def _delay(retry_after: str) -> float:
    """Read seconds or a date (RFC 9110 §10.2.3); what is neither says nothing."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:_LONGEST_DELAY_DIGITS])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "registry-response-invalid", "the registry's answer makes no sense", stage=Stage.FETCH, detail=detail
    )


def _proxy_failed(detail: str) -> UnavailableError:
    return UnavailableError(
        "registry-proxy-failed",
        "the proxy to the registry does not let us through",
        stage=Stage.FETCH,
        detail=detail[:512],
    )


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(
        "registry-unavailable", "the registry does not answer", stage=Stage.FETCH, detail=detail[:512]
    )
