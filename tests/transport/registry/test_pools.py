"""Which connections lead to a URL."""

from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.registry.pools import RegistryPools


def test_tls_is_the_owners_also_where_a_peer_writes_the_scheme_in_capitals():
    pools = RegistryPools("", Proxies())
    assert pools.for_url("HTTPS://registry.example/") is pools.for_url("https://registry.example/")
    assert pools.for_url("http://registry.example/") is not pools.for_url("https://registry.example/")
    pools.close()
