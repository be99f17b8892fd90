"""
How a request gets its authorization: bearer tokens, basic credentials, redirects without either.

A registry answers 401 with a challenge; the token service it names gives a token for one
repository. Tokens are kept per host, repository and action. A redirect to another origin loses
the authorization: storage back ends have signed URLs, and the token is none of their business.
"""

from __future__ import annotations

import base64
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.transport.registry_http import RegistryHttp

Credentials = tuple[str, str]

MAX_TOKEN_ANSWER_BYTES: Final = 1 << 20
MAX_REDIRECTS: Final = 5
_MAX_CHALLENGE_CHARS: Final = 4096
_PARAMETER: Final = re.compile(r'([a-z]+)="([^"]*)"')
# What RFC 6750 lets a bearer token consist of; anything else could break out of the header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=:-]+")
_UNAUTHORIZED: Final = 401
_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def anonymous(_registry: str) -> Credentials | None:
    """Know no credentials for any registry."""
    return None


class RegistryAuth:
    """Adds authorization to requests and remembers tokens."""

    def __init__(self, http: RegistryHttp, credentials: Callable[[str], Credentials | None]) -> None:
        self._http = http
        self._credentials = credentials
        # Read and written by several threads; a lost entry costs one more token request.
        self._known: dict[tuple[str, str, str, bool], str] = {}

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        reference: Reference,
        *,
        push: bool = False,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[BaseHTTPResponse]:
        """Send a request, answering one challenge and following redirects; the answer may be any status."""
        wanted = dict(headers or {})
        response = self._authorized(method, url, reference, push=push, headers=wanted, body=body)
        replayable = body is None or isinstance(body, bytes)
        try:
            if response.status == _UNAUTHORIZED and replayable:
                self._answer_challenge(response, urlsplit(url).netloc, reference, push=push)
                response.close()
                response = self._authorized(method, url, reference, push=push, headers=wanted, body=body)
            if method in {"GET", "HEAD"}:
                response = self._follow(response, method, url, wanted)
            yield response
        finally:
            # An answer that was not read to its end leaves a connection nobody can use again.
            response.close()
            response.release_conn()

    def _authorized(
        self,
        method: str,
        url: str,
        reference: Reference,
        *,
        push: bool,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
    ) -> BaseHTTPResponse:
        # Keyed by the very host: an upload may continue elsewhere, where the authorization does not belong.
        key = (urlsplit(url).netloc, reference.registry, reference.repository, push)
        authorization = self._known.get(key)
        extra = {} if authorization is None else {"Authorization": authorization}
        return self._http.open(method, url, headers={**headers, **extra}, body=body)

    def _follow(
        self, response: BaseHTTPResponse, method: str, url: str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        for _ in range(MAX_REDIRECTS):
            if response.status not in _REDIRECTS:
                return response
            location = urljoin(url, response.headers.get("Location", ""))
            response.close()
            response, url = self._http.open(method, location, headers=headers), location
        response.close()
        raise _invalid("too many redirects")

    def _answer_challenge(
        self, response: BaseHTTPResponse, host: str, reference: Reference, *, push: bool
    ) -> None:
        challenge = response.headers.get("WWW-Authenticate", "")[:_MAX_CHALLENGE_CHARS]
        scheme, _, parameters = challenge.partition(" ")
        credentials = self._credentials(reference.registry)
        match scheme.lower():
            case "bearer":
                values = dict(_PARAMETER.findall(parameters))
                authorization = f"Bearer {self._token(values, credentials, reference, push=push)}"
            case "basic" if credentials is not None:
                authorization = _basic(credentials)
            case _:
                return
        self._known[host, reference.registry, reference.repository, push] = authorization

    def _token(
        self,
        challenge: Mapping[str, str],
        credentials: Credentials | None,
        reference: Reference,
        *,
        push: bool,
    ) -> str:
        """Ask the token service for a token; raise ``InvalidInputError`` or ``UnavailableError``."""
        realm = challenge.get("realm", "")
        actions = "pull,push" if push else "pull"
        query = {"scope": f"repository:{reference.repository}:{actions}"}
        if challenge.get("service"):
            query["service"] = challenge["service"]
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        headers = {} if credentials is None else {"Authorization": _basic(credentials)}
        response = self._http.open("GET", url, headers=headers)
        try:
            self._http.expect(response, {_OK}, stage=Stage.FETCH)
            return _read_token(self._http.read_bounded(response, MAX_TOKEN_ANSWER_BYTES))
        finally:
            response.close()
            response.release_conn()


def _read_token(body: bytes) -> str:
    try:
        fields = Fields(strict_json.loads(body, max_bytes=MAX_TOKEN_ANSWER_BYTES), "token")
        token = fields.text("token", default="") or fields.text("access_token")
    except ValueError as error:
        raise _invalid(f"a token answer: {error}") from error
    if not _TOKEN.fullmatch(token):
        raise _invalid("a token that is none")
    return token


def _basic(credentials: Credentials) -> str:
    user, password = credentials
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "registry-response-invalid", "the registry's answer makes no sense", stage=Stage.FETCH, detail=detail
    )
