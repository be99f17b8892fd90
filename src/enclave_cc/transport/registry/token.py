"""Tokens of a registry's token service: for a password, for an identity token, or for nobody."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.registries.token import MAX_TOKEN_ANSWER_BYTES, TokenAnswer
from enclave_cc.transport.registry.bounded_memory import BoundedMemory

if TYPE_CHECKING:
    from enclave_cc.formats.registries.credentials import Credentials
    from enclave_cc.transport.registry.http import RegistryHttp

# Token services keep a list of who uses refresh tokens; the name is ours to choose.
_CLIENT_ID: Final = "enclave-cc"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_OK: Final = 200
# OAuth 2 says 400 for a refresh token that is not good any more.
_REFUSED: Final = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Whom to ask, and what the token must cover."""

    realm: str
    service: str
    scopes: tuple[str, ...]


class TokenService:
    """Asks for tokens; remembers identity tokens that were replaced."""

    def __init__(self, http: RegistryHttp) -> None:
        self._http = http
        self._replaced: BoundedMemory[tuple[str, str], str] = BoundedMemory()

    def token(self, request: TokenRequest, credentials: Credentials | None) -> TokenAnswer:
        """Get a token; raise ``InvalidInputError`` (registry-access-denied, …) or ``UnavailableError``."""
        if credentials is not None and credentials.identity_token:
            return self._exchange(request, credentials.identity_token)
        query = [("scope", scope) for scope in request.scopes]
        if request.service:
            query.append(("service", request.service))
        url = f"{request.realm}{'&' if '?' in request.realm else '?'}{urlencode(query)}"
        known = credentials is not None and credentials.has_password
        headers = {"Authorization": basic(credentials)} if known and credentials is not None else {}
        return self._ask("GET", url, headers, None)

    def _exchange(self, request: TokenRequest, identity_token: str) -> TokenAnswer:
        current = self._replaced.get((request.realm, identity_token)) or identity_token
        form = {
            "grant_type": "refresh_token",
            "client_id": _CLIENT_ID,
            "service": request.service,
            "scope": " ".join(request.scopes),
            "refresh_token": current,
        }
        answer = self._ask("POST", request.realm, _FORM, urlencode(form).encode("ascii"))
        if answer.identity_token:
            self._replaced.keep((request.realm, identity_token), answer.identity_token)
        return answer

    def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> TokenAnswer:
        response = self._http.open(method, url, headers=headers, body=body)
        try:
            if response.status in _REFUSED:
                raise InvalidInputError(
                    "registry-access-denied",
                    "the registry denies access to the image",
                    stage=Stage.FETCH,
                    detail=f"the token service answered with HTTP status {response.status}",
                )
            self._http.expect(response, {_OK}, stage=Stage.FETCH)
            return _read(self._http.read_bounded(response, MAX_TOKEN_ANSWER_BYTES))
        finally:
            response.close()
            response.release_conn()


def basic(credentials: Credentials) -> str:
    """Write HTTP's basic authorization."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _read(body: bytes) -> TokenAnswer:
    try:
        return TokenAnswer.parse(body)
    except ValueError as error:
        raise InvalidInputError(
            "registry-response-invalid",
            "the registry's answer makes no sense",
            stage=Stage.FETCH,
            detail=str(error),
        ) from error
