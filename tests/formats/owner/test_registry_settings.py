"""``[image.registries]`` of initdata."""

import tomllib

import pytest

from enclave_cc.core.fields import FieldError
from enclave_cc.formats.owner.settings import OwnerSettings

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def parse(text):
    return OwnerSettings.parse(tomllib.loads(text))


def test_everything_is_read():
    settings = parse(
        f'''
        [image.registries]
        ca = """{PEM}"""
        https_proxy = "kbs:///team/registry/proxy"
        http_proxy = "http://proxy.example:3128"
        no_proxy = [".internal.example", "10.0.0.0/8"]
        [[image.registries.registry]]
        prefix = "registry.example"
        [[image.registries.registry.mirror]]
        location = "mirror.example:5000"
        insecure = true
        '''
    )
    registries = settings.registries
    assert registries.ca == PEM
    assert registries.https_proxy == "kbs:///team/registry/proxy"
    assert registries.inline.rules[0].mirrors[0].location == "mirror.example:5000"
    assert settings.plain_http_hosts() == {"mirror.example:5000"}
    assert settings.weaknesses() == ("insecure_http_registries",)


def test_by_default_nothing_is_in_between():
    settings = parse("")
    assert settings.registries == OwnerSettings().registries
    assert settings.weaknesses() == ()


def test_a_configuration_may_be_a_resource_which_is_no_weakness_by_itself():
    settings = parse('[image.registries]\nconfig = "kbs:///team/registry/conf"')
    assert settings.registries.config == "kbs:///team/registry/conf"
    assert settings.weaknesses() == ()


@pytest.mark.parametrize(
    "text",
    [
        'unknown = "x"',
        'config = "/etc/containers/registries.conf"',
        'config = "kbs:///a/b/c"\n[[image.registries.registry]]\nprefix = "registry.example"',
        'ca = "no certificate"',
        'https_proxy = "proxy.example"',
        'http_proxy = "socks5://proxy.example"',
        'no_proxy = "text"',
        "no_proxy = [1]",
        'unqualified-search-registries = ["registry.example"]',
        '[[image.registries.registry]]\nprefix = "registry.example"\nunknown = 1',
        '[[image.registries.registry]]\nlocation = "https://registry.example"',
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(FieldError):
        parse(f"[image.registries]\n{text}\n")
