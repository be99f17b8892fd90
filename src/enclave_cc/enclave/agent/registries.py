"""
The registry client of one pull, as the owner's measured settings want it: credentials, mirrors, proxies, CAs.

What a resource of the broker says counts as much as initdata, with one exception: which hosts may be spoken
to without TLS stands in initdata alone, where the broker saw it before it released anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.owner.registries import RESOURCE
from enclave_cc.formats.registries.auth_file import AuthFile
from enclave_cc.formats.registries.configuration import Registries
from enclave_cc.formats.registries.helper_answer import parse_credentials
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.registry.lookaside import LookasideClient
from enclave_cc.transport.registry.mirrored import MirroredRegistry, MirrorHealth

if TYPE_CHECKING:
    from enclave_cc.enclave.agent.broker import BrokerSession
    from enclave_cc.formats.owner.settings import OwnerSettings
    from enclave_cc.transport.patience.deadline import Patience

# Where there is somebody else to ask, a second attempt tells a hiccup from a failure.
_MIRROR_ATTEMPTS: Final = 2


class RegistryOpener:
    """Opens registries for pulls; what it remembers of mirrors outlives each of them."""

    def __init__(self, settings: OwnerSettings) -> None:
        self._settings = settings
        self._health = MirrorHealth()

    def __call__(self, session: BrokerSession, *, patience: Patience | None = None) -> MirroredRegistry:
        """Open the registry for one pull, which ends with ``patience``; raises the error family."""
        settings = self._settings
        proxies = _proxies(settings, session)
        credentials = _credentials(settings, session)

        def client(attempts: dict[str, int]) -> RegistryClient:
            return RegistryClient(
                insecure_http=settings.plain_http_hosts(),
                ca_pem=settings.registries.ca,
                proxies=proxies,
                credentials=credentials.find,
                patience=patience,
                **attempts,
            )

        registries = _registries(settings, session)
        return MirroredRegistry(
            registries, client({}), quick=client({"attempts": _MIRROR_ATTEMPTS}), health=self._health
        )

    def signatures(self, session: BrokerSession, *, patience: Patience | None = None) -> LookasideClient:
        """Open the store of simple signatures that the owner names, by the same ways as registries."""
        settings = self._settings
        return LookasideClient(
            settings.lookaside,
            insecure_http=settings.plain_http_hosts(),
            ca_pem=settings.registries.ca,
            proxies=_proxies(settings, session),
            patience=patience,
        )


def _credentials(settings: OwnerSettings, session: BrokerSession) -> AuthFile:
    if not settings.registry_credentials:
        return AuthFile()
    return parse_credentials(session.get(settings.registry_credentials))


def _registries(settings: OwnerSettings, session: BrokerSession) -> Registries:
    if not settings.registries.config:
        return settings.registries.inline
    return Registries.parse(session.get(settings.registries.config), strict=True)


def _proxies(settings: OwnerSettings, session: BrokerSession) -> Proxies:
    with foreign("registries-config-invalid", "the registry configuration is malformed", stage=Stage.CONFIG):
        return Proxies.parse(
            _address(settings.registries.https_proxy, session),
            _address(settings.registries.http_proxy, session),
            settings.registries.no_proxy,
        )


def _address(text: str, session: BrokerSession) -> str:
    """Return a proxy's address; in the broker it may be kept with its password."""
    return session.get(text).decode("utf-8").strip() if text.startswith(RESOURCE) else text
