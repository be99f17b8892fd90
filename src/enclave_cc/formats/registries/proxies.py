"""
Which proxy a request goes through: ``https_proxy``, ``http_proxy``, ``no_proxy``, as everybody writes them.

A proxy sees where a request goes and, of plain HTTP, everything; what it brings back is as
untrusted as the network. Nothing is taken from an environment here.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote, urlsplit

from enclave_cc.core.fields import FieldError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SCHEMES: Final = ("http", "https")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_EXCEPTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address, and the authorization that its URL held."""

    url: str
    authorization: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``http[s]://[user:password@]host[:port]``; raise ``FieldError``."""
        parts = _split(text)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/") or parts.query:
            raise FieldError("a proxy is not an http:// or https:// address")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        url = f"{parts.scheme}://{host}:{_port(parts)}"
        if parts.username is None:
            return cls(url)
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        return cls(url, f"Basic {base64.b64encode(pair).decode('ascii')}")


@dataclass(frozen=True, slots=True)
class _Exception:
    """One entry of ``no_proxy``: a network, or a domain with what is below it."""

    domain: str = ""
    only_below: bool = False
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            return cls(network=ipaddress.ip_network(text.strip("[]"), strict=False))
        except ValueError:
            pass
        host, colon, port = text.rpartition(":")
        if colon and port.isdecimal():
            return cls._host(host, int(port))
        return cls._host(text, None)

    @classmethod
    def _host(cls, text: str, port: int | None) -> Self:
        try:
            return cls(network=ipaddress.ip_network(text.strip("[]")), port=port)
        except ValueError:
            domain = text.lower().removeprefix("*")
            return cls(domain.strip("."), only_below=domain.startswith("."), port=port)

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            try:
                return ipaddress.ip_address(host) in self.network
            except ValueError:
                return False
        return host.endswith(f".{self.domain}") or (host == self.domain and not self.only_below)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for each scheme, and the hosts that are reached without one."""

    https: Proxy | None = None
    http: Proxy | None = None
    exceptions: tuple[_Exception, ...] = ()
    never: bool = False

    @classmethod
    def parse(cls, https_proxy: str, http_proxy: str, no_proxy: tuple[str, ...]) -> Self:
        """
        Read the settings; raise ``FieldError``.

        An entry of ``no_proxy`` is ``*``, an address, a network (``10.0.0.0/8``), a domain (itself and what
        is below it) or ``.domain`` (what is below it), the last three with or without ``:port``.
        """
        entries = [entry for text in no_proxy for entry in text.replace(",", " ").split()]
        if len(entries) > MAX_EXCEPTIONS:
            raise FieldError(f"no_proxy: has more than {MAX_EXCEPTIONS} entries")
        return cls(
            Proxy.parse(https_proxy) if https_proxy else None,
            Proxy.parse(http_proxy) if http_proxy else None,
            tuple(_Exception.parse(entry) for entry in entries if entry != "*"),
            never="*" in entries,
        )

    def for_url(self, url: str) -> Proxy | None:
        """Return the proxy for a URL, None where there is none; raise ``FieldError`` for no URL."""
        parts = _split(url)
        proxy = self.https if parts.scheme == "https" else self.http
        if proxy is None or self.never:
            return None
        host, port = parts.hostname or "", _port(parts)
        return None if any(entry.covers(host, port) for entry in self.exceptions) else proxy


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        _ = parts.port
    except ValueError as error:
        raise FieldError("is not a URL") from error
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
