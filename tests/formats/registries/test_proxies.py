"""Which proxy a URL goes through."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.fields import FieldError
from enclave_cc.formats.registries.proxies import Proxies, Proxy


def through(no_proxy, url="https://registry.example/v2/"):
    proxies = Proxies.parse("http://proxy.example:3128", "", tuple(no_proxy))
    return proxies.for_url(url) is not None


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ([], "https://registry.example/", True),
        ([], "http://registry.example/", False),
        (["*"], "https://registry.example/", False),
        (["registry.example"], "https://registry.example/", False),
        (["Registry.Example"], "https://registry.example:5000/", False),
        (["example"], "https://registry.example/", False),
        (["gistry.example"], "https://registry.example/", True),
        ([".registry.example"], "https://registry.example/", True),
        ([".registry.example"], "https://a.registry.example/", False),
        (["*.registry.example"], "https://a.registry.example/", False),
        (["registry.example:5000"], "https://registry.example/", True),
        (["registry.example:5000"], "https://registry.example:5000/", False),
        (["registry.example:443"], "https://registry.example/", False),
        (["10.0.0.0/8"], "https://10.1.2.3/", False),
        (["10.0.0.0/8"], "https://11.1.2.3/", True),
        (["10.0.0.0/8"], "https://registry.example/", True),
        (["10.1.2.3:5000"], "https://10.1.2.3:5000/", False),
        (["10.1.2.3:5000"], "https://10.1.2.3/", True),
        (["::1"], "https://[::1]:5000/", False),
        (["[::1]:5000"], "https://[::1]:5000/", False),
        (["other.example, registry.example"], "https://registry.example/", False),
    ],
)
def test_exceptions_cover_hosts_domains_networks_and_ports(no_proxy, url, proxied):
    assert through(no_proxy, url) is proxied


def test_each_scheme_has_its_proxy():
    proxies = Proxies.parse("http://a.example", "https://b.example:8443", ())
    assert proxies.for_url("https://x.example/").url == "http://a.example:80"
    assert proxies.for_url("http://x.example/").url == "https://b.example:8443"


def test_a_password_becomes_an_authorization_that_is_not_shown():
    proxy = Proxy.parse("http://alice:p%40ss@proxy.example:3128/")
    assert proxy.url == "http://proxy.example:3128"
    assert proxy.authorization == "Basic YWxpY2U6cEBzcw=="
    assert "YWxp" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "proxy.example:3128",
        "socks5://proxy.example",
        "http://",
        "http://a.example/path",
        "http://[",
        "http://a:b",
    ],
)
def test_what_is_no_proxy_is_refused(text):
    with pytest.raises(FieldError):
        Proxies.parse(text, "", ())


def test_exceptions_are_bounded():
    with pytest.raises(FieldError):
        Proxies.parse("", "", ("a.example," * 257,))


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_raises_anything_but_the_declared_error(proxy, exception):
    with contextlib.suppress(FieldError):
        Proxies.parse(proxy, "", (exception,)).for_url("https://registry.example/")
