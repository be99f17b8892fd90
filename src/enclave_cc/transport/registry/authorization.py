"""
How a request gets its authorization: bearer tokens, basic credentials, redirects without either.

A registry answers 401 with a challenge; the token service it names gives a token for one
repository. Tokens are kept per host, repository and action, renewed shortly before they expire,
and once more when a registry does not take one. A redirect to another origin loses the
authorization: storage back ends have signed URLs, and the token is none of their business.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.registries.challenge import choose, parse_challenges
from enclave_cc.formats.registries.token import scope_union
from enclave_cc.transport.registry.bounded_memory import BoundedMemory
from enclave_cc.transport.registry.token import TokenRequest, TokenService, basic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.registries.challenge import Challenge
    from enclave_cc.formats.registries.credentials import Credentials
    from enclave_cc.transport.registry.http import RegistryHttp

MAX_REDIRECTS: Final = 5
# A token is renewed so long before its end that a request which has it still gets through.
_RENEW_BEFORE_S: Final = 10.0
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class _Scope(NamedTuple):
    """What one authorization is good for, at this very host: an upload may continue elsewhere, without it."""

    origin: str
    registry: str
    repository: str
    push: bool
    also_pull: str


@dataclass(frozen=True, slots=True)
class _Grant:
    """An authorization, when to renew it, and the challenge that says how."""

    header: str
    renew_at_s: float
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request as it may be sent again."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | Iterable[bytes] | None

    @property
    def replayable(self) -> bool:
        return self.body is None or isinstance(self.body, bytes)


class RegistryAuth:
    """Adds authorization to requests and remembers tokens."""

    def __init__(
        self,
        http: RegistryHttp,
        credentials: Callable[[Reference], Credentials | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._tokens = TokenService(http)
        # Read and written by several threads; a lost entry costs one more token request.
        self._known: BoundedMemory[_Scope, _Grant] = BoundedMemory()

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        reference: Reference,
        *,
        push: bool = False,
        also_pull: str = "",
        home: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[BaseHTTPResponse]:
        """
        Send a request, answering one challenge and following redirects; the answer may be any status.

        ``home`` is an address of the registry where ``url`` is one that it only named: if that is somebody
        else's, what he asks for is not shown to him.
        """
        scope = _Scope(_origin(home or url), reference.registry, reference.repository, push, also_pull)
        sent = _Sent(method, url, dict(headers or {}), body)
        self._renew(scope, reference)
        response = self._send(sent, scope)
        try:
            at_home = _origin(url) == scope.origin
            if at_home and sent.replayable and self._challenged(response, scope, reference):
                response.close()
                response = self._send(sent, scope)
            if method in {"GET", "HEAD"}:
                response = self._follow(response, sent, scope)
            yield response
        finally:
            # An answer that was not read to its end leaves a connection nobody can use again.
            response.close()
            response.release_conn()

    def _send(self, sent: _Sent, scope: _Scope) -> BaseHTTPResponse:
        grant = self._known.get(scope) if _origin(sent.url) == scope.origin else None
        extra = {} if grant is None else {"Authorization": grant.header}
        return self._http.open(sent.method, sent.url, headers={**sent.headers, **extra}, body=sent.body)

    def _follow(self, response: BaseHTTPResponse, sent: _Sent, scope: _Scope) -> BaseHTTPResponse:
        url = sent.url
        for _ in range(MAX_REDIRECTS):
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = _joined(url, location)
            response = self._send(_Sent(sent.method, url, sent.headers, None), scope)
        response.close()
        raise _invalid("too many redirects")

    def _renew(self, scope: _Scope, reference: Reference) -> None:
        """Renew a token that is about to expire: a body that streams could not be sent twice."""
        grant = self._known.get(scope)
        if grant is not None and self._clock() >= grant.renew_at_s:
            self._known.keep(scope, self._grant(grant.challenge, scope, self._credentials(reference)))

    def _challenged(self, response: BaseHTTPResponse, scope: _Scope, reference: Reference) -> bool:
        """Answer a challenge; tell whether it is worth asking again."""
        offered = choose(parse_challenges(response.headers.getlist("WWW-Authenticate")))
        bearer = offered.get("bearer")
        narrow = bearer is not None and bearer.get("error") == "insufficient_scope"
        if response.status != _UNAUTHORIZED and not (response.status == _FORBIDDEN and narrow):
            return False
        credentials = self._credentials(reference)
        if bearer is not None and bearer.get("realm"):
            self._known.keep(scope, self._grant(bearer, scope, credentials))
            return True
        if "basic" in offered and credentials is not None and credentials.has_password:
            self._known.keep(scope, _Grant(basic(credentials), float("inf"), offered["basic"]))
            return True
        return False

    def _grant(self, challenge: Challenge, scope: _Scope, credentials: Credentials | None) -> _Grant:
        if credentials is not None and credentials.registry_token:
            return _Grant(f"Bearer {credentials.registry_token}", float("inf"), challenge)
        wanted = scope_union(
            scope.repository,
            push=scope.push,
            offered=challenge.get("scope"),
            also_pull=scope.also_pull,
        )
        request = TokenRequest(challenge.get("realm"), challenge.get("service"), wanted)
        try:
            answer = self._tokens.token(request, credentials)
        except InvalidInputError as error:
            # What is public stays public for somebody whose password is not good any more.
            if error.code != "registry-access-denied" or credentials is None or scope.push:
                raise
            answer = self._tokens.token(request, None)
        lifetime_s = max(answer.lifetime_s - _RENEW_BEFORE_S, answer.lifetime_s / 2)
        return _Grant(f"Bearer {answer.token}", self._clock() + lifetime_s, challenge)


def _joined(url: str, location: str) -> str:
    try:
        joined = urljoin(url, location)
        urlsplit(joined)
    except ValueError as error:
        raise _invalid("a malformed redirect") from error
    return joined


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "registry-response-invalid", "the registry's answer makes no sense", stage=Stage.FETCH, detail=detail
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    # Registries behind proxies like to write the port that everybody means.
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ''))}"
