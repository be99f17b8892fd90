"""Any bytes on any socket of a running scene: nobody falls over, and nothing half-made is left."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from dataclasses import replace

import pytest

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.demo.cri.client import CriCallError
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import acts
from enclave_cc.formats.messages.agent import AGENT_SERVICE, LOCAL_ATTESTATION_SERVICE
from enclave_cc.transport.ttrpc_client import TtrpcClient

# The first test waits for the whole scene, and on a fresh machine for the download of packages.
pytestmark = [pytest.mark.root, pytest.mark.scene, pytest.mark.timeout(600)]

_SEEDS = range(20)


def _throw(connection, seed):
    """Send some bytes that look like frames, and some that look like nothing; a refusal may come any time."""
    source = random.Random(seed)
    connection.settimeout(0.5)
    with contextlib.suppress(OSError):
        connection.sendall(source.randbytes(source.randrange(1, 4000)))
        connection.sendall(b"\x00\x00\x00\x10\x00\x00\x00\x01\x01\x00" + source.randbytes(16))
        connection.recv(4096)


@pytest.fixture
def still_well(cast, hello):
    """Afterwards the pod answers, and exists as before."""
    before = leftovers(cast.scene.paths)
    yield
    assert acts.run_command(cast, hello)
    acts.wait_until_gone(cast, before)


@pytest.mark.parametrize("name", ["agent", "platform", "node", "snapshotter", "shim"])
def test_any_bytes_on_a_unix_socket_leave_everybody_well(cast, hello, still_well, name):
    paths = cast.scene.paths
    address = next(paths.containerd.glob(f"state/*/*/{hello.sandbox_id}/address")).read_text()
    path = {
        "agent": paths.node / "pods" / hello.sandbox_id / "run/agent.sock",
        "platform": paths.platform_socket,
        "node": paths.node_socket,
        "snapshotter": paths.snapshot_socket,
        "shim": address.removeprefix("unix://"),
    }[name]
    for seed in _SEEDS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            _throw(connection, seed)


@pytest.mark.parametrize("encrypted", [False, True])
def test_any_bytes_on_the_brokers_port_leave_it_well(cast, still_well, encrypted):
    context = ssl.create_default_context(cadata=cast.scene.broker.tls_ca.read_text())
    for seed in _SEEDS:
        with socket.create_connection(("127.0.0.1", cast.scene.ports.broker)) as plain:
            if encrypted:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                    _throw(connection, seed)
            else:
                _throw(plain, seed)
    with cast.scene.admin() as admin:
        assert admin.list_resources()


@pytest.mark.parametrize(
    ("image", "spec"),
    [
        ("", b""),
        ("not an image\x00", b""),
        ("{reference}", b"\xff not JSON"),
        ("{reference}", b'{"process": {"args": "sh"}}'),
        ("{reference}", b"[" * 10_000),
    ],
)
def test_a_prepare_that_makes_no_sense_is_refused_and_the_connection_stays_usable(
    cast, hello, still_well, image, spec
):
    path = cast.scene.paths.node / "pods" / hello.sandbox_id / "run/agent.sock"
    with TtrpcClient(str(path)) as agent:
        request = {
            "request_id": fresh_request_id(),
            "container_id": "bad-input",
            "image": image.replace("{reference}", cast.hello.reference),
            "spec": spec,
        }
        with pytest.raises((InvalidInputError, RefusedError)) as caught:
            agent.call(AGENT_SERVICE, "Prepare", request)
        assert caught.value.code != "internal"
        assert agent.call(AGENT_SERVICE, "Status", {})["pod_uid"] == hello.sandbox_id


def test_a_handshake_of_random_bytes_is_refused(cast, hello, still_well):
    path = cast.scene.paths.node / "pods" / hello.sandbox_id / "run/agent.sock"
    for seed in _SEEDS:
        with TtrpcClient(str(path)) as agent, pytest.raises((InvalidInputError, RefusedError)) as caught:
            agent.call(LOCAL_ATTESTATION_SERVICE, "Hello", {"message": random.Random(seed).randbytes(300)})
        assert caught.value.code != "internal"


def test_a_pod_with_unreadable_initdata_is_refused_and_leaves_nothing(cast, still_well):
    plan = cast.pod("bad-initdata", cast.hello)
    plan.annotations["enclave-cc.dev/initdata"] = "AAAA"
    with pytest.raises(CriCallError) as caught:
        cast.scene.kubelet().run(plan)
    assert caught.value.host.code == "initdata-invalid"


def test_a_pod_with_another_owners_initdata_gets_no_key(cast, still_well):
    plan = cast.pod("other-owner", cast.hello)
    plan.annotations["enclave-cc.dev/initdata"] = cast.initdata.replace(
        b"exec = true", b"exec = false"
    ).decode()
    with pytest.raises(CriCallError) as caught:
        cast.scene.kubelet().run(plan)
    assert caught.value.host.code == "broker-refused-resource"


def test_a_pod_without_initdata_starts_no_image_of_an_owner(cast, still_well):
    plan = cast.pod("no-owner", cast.hello)
    plan.annotations.clear()
    with pytest.raises(CriCallError) as caught:
        cast.scene.kubelet().run(plan)
    assert caught.value.host.code == "image-policy-missing"


def test_arguments_that_the_image_does_not_have_are_refused(cast, still_well):
    plan = replace(
        cast.pod("other-command", cast.hello), command=("/bin/sh", "-c", "cat /srv/data/marker.txt")
    )
    with pytest.raises(CriCallError) as caught:
        cast.scene.kubelet().run(plan)
    assert (caught.value.host.code, caught.value.host.stage) == ("launch-policy-refused", "launch")
