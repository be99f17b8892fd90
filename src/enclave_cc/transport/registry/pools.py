"""Connections to registries: directly or through a proxy, TLS under the system's roots and given ones."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.transport.patience.interruption import OpenSockets

if TYPE_CHECKING:
    from enclave_cc.formats.registries.proxies import Proxies, Proxy

_POOLED_HOSTS: Final = 8
_POOLED_CONNECTIONS: Final = 8


class RegistryPools:
    """One pool for direct connections, and one for each proxy that was needed so far."""

    def __init__(self, ca_pem: str, proxies: Proxies) -> None:
        self._proxies = proxies
        # Reading the system's roots takes longer than a small pull: not before somebody speaks TLS.
        self._tls = _tls(ca_pem) if ca_pem else None
        self._pools: dict[tuple[Proxy | None, bool], urllib3.PoolManager] = {}
        self._sockets = OpenSockets()
        self._lock = threading.Lock()

    def for_url(self, url: str) -> urllib3.PoolManager:
        """Return the pool that leads to a URL; the URL was checked before."""
        way = self._proxies.for_url(url), urlsplit(url).scheme == "https"
        with self._lock:
            pool = self._pools.get(way)
            if pool is None:
                pool = self._pools[way] = self._open(*way)
                self._sockets.watch(pool)
        return pool

    def close(self) -> None:
        """Drop the pooled connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def interrupt(self) -> None:
        """End what waits for a peer."""
        self._sockets.shut_down()

    def _open(self, proxy: Proxy | None, secure: bool) -> urllib3.PoolManager:  # noqa: FBT001
        if proxy is None and not secure:
            return urllib3.PoolManager(num_pools=_POOLED_HOSTS, maxsize=_POOLED_CONNECTIONS, retries=False)
        self._tls = self._tls or _tls("")
        if proxy is None:
            return urllib3.PoolManager(
                num_pools=_POOLED_HOSTS, maxsize=_POOLED_CONNECTIONS, retries=False, ssl_context=self._tls
            )
        return urllib3.ProxyManager(
            proxy.url,
            num_pools=_POOLED_HOSTS,
            maxsize=_POOLED_CONNECTIONS,
            retries=False,
            ssl_context=self._tls,
            proxy_ssl_context=self._tls,
            proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy.authorization else None,
        )


def _tls(ca_pem: str) -> ssl.SSLContext:
    # `create_default_context` would write session keys to where the environment says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
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
