"""Registries behind proxies."""

import pytest
from tests.simulators.certificates import loopback_certificate
from tests.simulators.proxy import running_proxy
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.registry.client import RegistryClient


@pytest.fixture
def proxy():
    with running_proxy() as running:
        yield running


def test_tls_goes_through_a_tunnel_and_the_registry_is_still_checked(proxy, tmp_path):
    context, ca_pem = loopback_certificate(tmp_path, "registry.example")
    with running_registry(context) as simulator:
        simulator.add_manifest("app", "1", b"{}")
        proxy.divert_to = ("127.0.0.1", simulator.server.server_address[1])
        reference = Reference.parse("registry.example/app:1")
        proxies = Proxies.parse(proxy.url, "", ())
        trusting = RegistryClient(ca_pem=ca_pem, proxies=proxies, credentials=lambda _: Credentials("a", "b"))
        simulator.auth = ""
        assert trusting.manifest(reference, digest_or_tag="1").body == b"{}"
        assert [(method, path) for method, path, _ in proxy.requests] == [("CONNECT", "registry.example:443")]
        trusting.close()
        doubting = RegistryClient(proxies=proxies)
        with pytest.raises(InvalidInputError) as caught:
            doubting.manifest(reference, digest_or_tag="1")
        assert caught.value.code == "registry-tls-refused"
        doubting.close()


def test_a_proxys_password_goes_to_the_proxy_and_not_to_the_registry(proxy, tmp_path):
    context, ca_pem = loopback_certificate(tmp_path)
    with running_registry(context) as simulator:
        simulator.add_manifest("app", "1", b"{}")
        proxy.authorization = "Basic YWxpY2U6c2VjcmV0"
        address = proxy.url.replace("http://", "http://alice:secret@")
        client = RegistryClient(ca_pem=ca_pem, proxies=Proxies.parse(address, "", ()))
        client.manifest(Reference.parse(f"{simulator.host}/app:1"), digest_or_tag="1")
        assert "Proxy-Authorization" not in simulator.requests[-1][2]
        client.close()


@pytest.mark.parametrize("tls", [True, False])
def test_a_proxy_that_lets_nobody_through_is_named_as_the_reason(proxy, tls):
    proxy.authorization = "Basic other"
    proxies = Proxies.parse(proxy.url, proxy.url, ())
    host = "registry.example"
    client = RegistryClient(proxies=proxies, insecure_http=[] if tls else [host], attempts=1)
    with pytest.raises(UnavailableError) as caught:
        client.manifest(Reference.parse(f"{host}/app:1"), digest_or_tag="1")
    assert caught.value.code == "registry-proxy-failed"
    client.close()


def test_a_proxy_that_is_not_there_is_named_as_the_reason():
    client = RegistryClient(proxies=Proxies.parse("http://127.0.0.1:1", "", ()), attempts=1)
    with pytest.raises(UnavailableError) as caught:
        client.manifest(Reference.parse("registry.example/app:1"), digest_or_tag="1")
    assert caught.value.code == "registry-proxy-failed"
    client.close()


def test_plain_http_is_forwarded_and_exceptions_go_directly(proxy):
    with running_registry() as simulator:
        simulator.add_manifest("app", "1", b"{}")
        reference = Reference.parse(f"{simulator.host}/app:1")
        for exceptions, forwarded in (((), 1), (("127.0.0.0/8",), 0)):
            proxy.requests.clear()
            client = RegistryClient(
                insecure_http=[simulator.host], proxies=Proxies.parse("", proxy.url, exceptions)
            )
            assert client.manifest(reference, digest_or_tag="1").body == b"{}"
            assert len(proxy.requests) == forwarded
            client.close()


def test_no_proxy_is_taken_from_the_environment(proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy.url)
    with running_registry() as simulator:
        simulator.add_manifest("app", "1", b"{}")
        client = RegistryClient(insecure_http=[simulator.host])
        client.manifest(Reference.parse(f"{simulator.host}/app:1"), digest_or_tag="1")
        client.close()
    assert proxy.requests == []
