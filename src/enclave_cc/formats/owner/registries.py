"""
The table ``[image.registries]`` of initdata: mirrors, locations and blocks, proxies and CAs.

It is measured with the rest. Whatever it says, images are judged by the name that was asked for and
by their digests and signatures; what can be weakened here is only who sees what is fetched, and that
is named by ``insecure_hosts``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.fields import FieldError
from enclave_cc.formats.registries.configuration import Registries
from enclave_cc.formats.registries.proxies import Proxies, Proxy

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

RESOURCE: Final = "kbs:///"
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How the agent reaches registries; the default is directly, by the image's own name."""

    # A resource with a registries.conf, in place of inline tables.
    config: str = ""
    inline: Registries = field(default_factory=Registries)
    ca: str = ""
    # Addresses of proxies, or resources that hold one: an address may have a password in it.
    https_proxy: str = ""
    http_proxy: str = ""
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def parse(cls, table: Fields) -> Self:
        """Read the table; raise ``FieldError``, also for unknown keys."""
        table.only("config", "registry", "ca", "https_proxy", "http_proxy", "no_proxy")
        config = table.text("config", default="")
        if config and not config.startswith(RESOURCE):
            raise table.error("config", "is not a kbs:/// resource")
        if config and table.has("registry"):
            raise table.error("config", "and [[image.registries.registry]] exclude each other")
        ca = table.text("ca", default="")
        if ca and _CERTIFICATE not in ca:
            raise table.error("ca", "holds no PEM certificate")
        settings = cls(
            config=config,
            inline=Registries.read(table, strict=True),
            ca=ca,
            https_proxy=_proxy(table, "https_proxy"),
            http_proxy=_proxy(table, "http_proxy"),
            no_proxy=table.texts("no_proxy"),
        )
        # Entries that make no sense are refused now; the addresses may still be in the broker.
        Proxies.parse("", "", settings.no_proxy)
        return settings

    def insecure_hosts(self) -> frozenset[str]:
        """Name the hosts that inline tables allow to be spoken to without TLS."""
        return self.inline.insecure_hosts()


def _proxy(table: Fields, name: str) -> str:
    text = table.text(name, default="")
    if text and not text.startswith(RESOURCE):
        try:
            Proxy.parse(text)
        except FieldError as error:
            raise table.error(name, str(error)) from error
    return text
