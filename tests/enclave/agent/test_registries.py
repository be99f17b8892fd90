"""What the agent's registry client is made of: the owner's settings and resources."""

import base64
import json

import pytest
from tests.simulators.memory_registry import MemoryResources
from tests.simulators.proxy import running_proxy
from tests.simulators.registry import running_registry

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, UnavailableError
from enclave_cc.core.fields import FieldError
from enclave_cc.enclave.agent.registries import RegistryOpener
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.owner.settings import OwnerSettings
from enclave_cc.transport.patience.deadline import Deadline, Patience

CONF = "kbs:///team/registry/conf"
PROXY = "kbs:///team/registry/proxy"
AUTH = "kbs:///team/registry/auth"
IMAGE = Reference.parse("registry.example/team/app:1")


@pytest.fixture
def simulator():
    with running_registry() as running:
        running.add_manifest("cache/team/app", "1", b"{}")
        running.add_manifest("team/app", "1", b"{}")
        yield running


def opened(image, resources=(), **options):
    settings = OwnerSettings.parse({"image": image})
    return RegistryOpener(settings)(MemoryResources(dict(resources)), **options)


def mirrored(simulator, **members):
    rule = {"prefix": "registry.example", "location": f"{simulator.host}/cache", **members}
    return {"registry": [rule]}


def test_inline_tables_lead_elsewhere_and_allow_plain_http_by_name(simulator):
    registry = opened({"registries": mirrored(simulator, insecure=True)})
    assert registry.manifest(IMAGE, digest_or_tag="1").body == b"{}"
    assert simulator.paths("GET") == ["/v2/cache/team/app/manifests/1"]
    registry.close()


def test_a_resource_leads_elsewhere_but_only_initdata_allows_plain_http(simulator):
    conf = (
        f'[[registry]]\nprefix = "registry.example"\nlocation = "{simulator.host}/cache"\ninsecure = true\n'
    )
    resources = {CONF: conf.encode()}
    registry = opened({"registries": {"config": CONF}}, resources)
    with pytest.raises((InvalidInputError, UnavailableError)):
        registry.manifest(IMAGE, digest_or_tag="1")
    assert simulator.requests == []
    registry.close()
    allowed = {"registries": {"config": CONF}, "insecure_http_registries": [simulator.host]}
    registry = opened(allowed, resources)
    assert registry.manifest(IMAGE, digest_or_tag="1").body == b"{}"
    registry.close()


def test_a_block_is_a_refusal(simulator):
    registry = opened({"registries": mirrored(simulator, blocked=True)})
    with pytest.raises(RefusedError) as caught:
        registry.manifest(IMAGE, digest_or_tag="1")
    assert caught.value.code == "registry-blocked"
    registry.close()


def test_credentials_are_those_of_the_endpoint_that_is_asked(simulator):
    simulator.auth = "basic"
    entry = {"auth": base64.b64encode(b"alice:secret").decode()}
    auths = {
        "registry.example": {"auth": base64.b64encode(b"bob:other").decode()},
        f"{simulator.host}/cache": entry,
    }
    registry = opened(
        {"registries": mirrored(simulator, insecure=True), "registry_credentials": AUTH},
        {AUTH: json.dumps({"auths": auths}).encode()},
    )
    assert registry.manifest(IMAGE, digest_or_tag="1").body == b"{}"
    registry.close()


def test_a_proxys_address_may_be_a_resource(simulator):
    with running_proxy() as proxy:
        registry = opened(
            {"registries": {"http_proxy": PROXY}, "insecure_http_registries": [simulator.host]},
            {PROXY: f"{proxy.url}\n".encode()},
        )
        reference = Reference.parse(f"{simulator.host}/team/app:1")
        assert registry.manifest(reference, digest_or_tag="1").body == b"{}"
        assert len(proxy.requests) == 1
        registry.close()


@pytest.mark.parametrize("address", [b"proxy.example", b"\xff"])
def test_a_proxys_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidInputError) as caught:
        opened({"registries": {"https_proxy": PROXY}}, {PROXY: address})
    assert caught.value.code == "registries-config-invalid"


def test_a_pull_ends_with_its_patience(simulator):
    registry = opened({"insecure_http_registries": [simulator.host]}, patience=Patience(Deadline.after(0)))
    with pytest.raises(UnavailableError) as caught:
        registry.manifest(Reference.parse(f"{simulator.host}/team/app:1"), digest_or_tag="1")
    assert caught.value.code == "deadline-exceeded"
    registry.close()


def test_simple_signatures_are_fetched_from_where_initdata_says(simulator):
    image = {
        "lookaside": {"registry.example/team": f"http://{simulator.host}/store"},
        "insecure_http_registries": [simulator.host],
    }
    opener = RegistryOpener(OwnerSettings.parse({"image": image}))
    store = opener.signatures(MemoryResources({}))
    digest = Digest.of(b"manifest")
    assert list(store.signatures(IMAGE, digest)) == []
    assert simulator.paths("GET") == [f"/store/team/app@sha256={digest.hex}/signature-1"]
    assert list(store.signatures(Reference.parse("other.example/app"), digest)) == []
    assert len(simulator.requests) == 1
    store.close()


@pytest.mark.parametrize("address", ["http://signatures.example", "file:///var/lib", "https://"])
def test_a_store_of_signatures_needs_a_safe_address(address):
    with pytest.raises(FieldError):
        OwnerSettings.parse({"image": {"lookaside": {"default": address}}})
