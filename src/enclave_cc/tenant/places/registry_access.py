"""How the owner's tools reach registries: a person's proxies and credentials, and what options add."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.tenant.credentials import credentials_for_people
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.registry.credential_files import CredentialFiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class RegistryAccess:
    """One client for all places of a command, made when the first place in a registry is opened."""

    def __init__(
        self, insecure_http: Sequence[str], *, ca_pem: str, proxies: Proxies, credentials: CredentialFiles
    ) -> None:
        self._insecure_http = insecure_http
        self._ca_pem = ca_pem
        self._proxies = proxies
        self._credentials = credentials
        self._client: RegistryClient | None = None

    @classmethod
    def from_environment(
        cls,
        insecure_http: Sequence[str] = (),
        *,
        ca_pem: str = "",
        auth_file: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Take proxies from the environment; an ``auth_file`` replaces the files of other tools."""
        credentials = (
            credentials_for_people(environment) if auth_file is None else CredentialFiles([auth_file])
        )
        return cls(insecure_http, ca_pem=ca_pem, proxies=_proxies(environment), credentials=credentials)

    def client(self) -> RegistryClient:
        """Return the client."""
        if self._client is None:
            self._client = RegistryClient(
                insecure_http=self._insecure_http,
                ca_pem=self._ca_pem,
                proxies=self._proxies,
                credentials=self._credentials,
            )
        return self._client

    def close(self) -> None:
        """Drop connections, if there are any."""
        if self._client is not None:
            self._client.close()


def _proxies(environment: Mapping[str, str]) -> Proxies:
    def value(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    try:
        # Whoever sends a request to a CGI program sets HTTP_PROXY there, so nobody reads it in capitals.
        http = environment.get("http_proxy") or ""
        return Proxies.parse(value("https_proxy"), http, (value("no_proxy"),))
    except FieldError as error:
        raise InvalidInputError(
            "proxy-invalid",
            "a proxy in the environment makes no sense",
            stage=Stage.CONFIG,
            detail=str(error),
        ) from error
