"""
The registries as the node reaches them: its own credentials, mirrors, proxies and CAs.

They serve the prefetch only. Agents check what it fetches, so nothing here can weaken a pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError
from enclave_cc.formats.owner.bounded_toml import MAX_TOML_BYTES
from enclave_cc.formats.registries.configuration import Registries
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.registry.credential_files import CredentialFiles
from enclave_cc.transport.registry.mirrored import MirroredRegistry, MirrorHealth

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.node.config import NodeConfig
    from enclave_cc.transport.patience.deadline import Patience

# One slow download is one worker less for every pod of the node; the agent fetches what is given up here.
_DOWNLOAD_S: Final = 1800.0
# Where there is somebody else to ask, a second attempt tells a hiccup from a failure.
_MIRROR_ATTEMPTS: Final = 2


class NodeRegistries:
    """Clients that live as long as the daemon; each fetch gets a view of its own."""

    def __init__(self, config: NodeConfig, patience: Patience) -> None:
        """Read the files that the configuration names; raise ``InvalidInputError``."""
        paths = [config.registry_credentials] if config.registry_credentials else []
        self._registries = _registries(config.registries_conf)
        self._config = config
        self._ca_pem = _read(config.registry_ca).decode("utf-8", "replace") if config.registry_ca else ""
        self._proxies = _proxies(config)
        self._credentials = CredentialFiles(paths)
        self._patience = patience
        self._client = self._open({})
        self._quick = self._open({"attempts": _MIRROR_ATTEMPTS})
        self._health = MirrorHealth()

    def __call__(self) -> MirroredRegistry:
        """Return the registries for one fetch."""
        return MirroredRegistry(self._registries, self._client, quick=self._quick, health=self._health)

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()
        self._quick.close()

    def _open(self, attempts: dict[str, int]) -> RegistryClient:
        insecure = self._registries.insecure_hosts().union(self._config.insecure_http_registries)
        return RegistryClient(
            insecure_http=insecure,
            ca_pem=self._ca_pem,
            proxies=self._proxies,
            credentials=self._credentials,
            blob_deadline_s=_DOWNLOAD_S,
            patience=self._patience,
            **attempts,
        )


def _registries(path: Path | None) -> Registries:
    # The file is shared with other tools, whose keys are none of our business.
    return Registries() if path is None else Registries.parse(_read(path), strict=False)


def _proxies(config: NodeConfig) -> Proxies:
    try:
        return Proxies.parse(config.https_proxy, config.http_proxy, config.no_proxy)
    except FieldError as error:
        raise _invalid(str(error)) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise _invalid(f"{path}: {error.strerror}") from error


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "node-config-invalid", "the node's configuration cannot be used", stage=Stage.CONFIG, detail=detail
    )
