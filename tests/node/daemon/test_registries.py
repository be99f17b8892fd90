"""How the node's prefetch reaches registries."""

import base64
import json

import pytest
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.registries import NodeRegistries
from enclave_cc.transport.patience.deadline import Deadline, Patience

PATHS = (
    "state",
    "runc",
    "runc_root",
    "agent_bundle",
    "boot_bundle",
    "platform_socket",
    "node_socket",
    "containerd_socket",
    "snapshot_root",
    "snapshot_socket",
)
IMAGE = Reference.parse("registry.example/app:1")


def config(**members):
    text = json.dumps(
        {name: f"/{name}" for name in PATHS} | {k: str(v) if k in MORE else v for k, v in members.items()}
    )
    return NodeConfig.parse(text.encode())


MORE = ("registry_credentials", "registries_conf", "registry_ca")


@pytest.fixture
def simulator():
    with running_registry() as running:
        yield running


def test_the_nodes_own_files_lead_to_a_mirror_with_the_nodes_credentials(tmp_path, simulator):
    simulator.auth = "basic"
    conf, auth = tmp_path / "registries.conf", tmp_path / "auth.json"
    conf.write_text(
        'unknown-to-us = 1\n[[registry]]\nprefix = "registry.example"\n'
        f'[[registry.mirror]]\nlocation = "{simulator.host}/cache"\ninsecure = true\n'
    )
    entry = {"auth": base64.b64encode(b"alice:secret").decode()}
    auth.write_text(json.dumps({"auths": {simulator.host: entry}}))
    digest = simulator.add_blob(b"content")
    registries = NodeRegistries(config(registries_conf=conf, registry_credentials=auth), Patience())
    assert b"".join(registries().blob(IMAGE, digest)) == b"content"
    assert simulator.paths("GET")[-1] == f"/v2/cache/app/blobs/{digest}"
    registries.close()


def test_what_the_configuration_says_survives_writing_it(tmp_path):
    full = config(
        registry_credentials=tmp_path / "a",
        registries_conf=tmp_path / "b",
        registry_ca=tmp_path / "c",
        https_proxy="http://proxy.example",
        no_proxy=["x.example"],
    )
    assert NodeConfig.parse(full.to_json()) == full


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"https_proxy": "proxy.example"}, "node-config-invalid"),
        ({"registries_conf": "/absent"}, "node-config-invalid"),
        ({"registry_ca": "/absent"}, "node-config-invalid"),
        ({"registry_ca": "relative"}, "node-config-invalid"),
        ({"registries_conf": __file__}, "registries-config-invalid"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(members, code):
    with pytest.raises(InvalidInputError) as caught:
        NodeRegistries(config(**members), Patience())
    assert caught.value.code == code


def test_a_daemon_that_stops_fetches_nothing_more(simulator):
    registries = NodeRegistries(
        config(insecure_http_registries=[simulator.host]), Patience(Deadline.after(0))
    )
    with pytest.raises(UnavailableError):
        list(registries().blob(Reference.parse(f"{simulator.host}/app:1"), simulator.add_blob(b"x")))
    registries.close()
