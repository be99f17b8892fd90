"""The daemon as a whole: identity from containerd, named users, and a kill at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.messages.node import NODE_SERVICE
from enclave_cc.formats.protobuf import decode, encode
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.daemon.containerd_client import ContainerdClient
from enclave_cc.node.daemon.containerd_messages import SNAPSHOTS
from enclave_cc.node.daemon.named_user import NamedUser
from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL, REFERENCE_LABEL
from enclave_cc.transport.ttrpc_client import TtrpcClient

IMAGE = "registry.example/app:1"
INDEX, MANIFEST, CONFIG = ("sha256:" + digit * 64 for digit in "123")


@pytest.fixture
def client(short_tmp, containerd):
    client = ContainerdClient(short_tmp / "c.sock")
    yield client
    client.close()


def members(directory):
    names = ("state", "runc_root", "agent_bundle", "boot_bundle", "snapshot_root")
    sockets = {"platform": "p", "node": "n", "containerd": "c", "snapshot": "s"}
    paths = {name: str(directory / name) for name in names}
    paths |= {f"{name}_socket": str(directory / f"{short}.sock") for name, short in sockets.items()}
    return paths | {"runc": "/usr/sbin/runc"}


class Daemon:
    def __init__(self, directory):
        config = directory / "node.json"
        config.write_text(json.dumps(members(directory) | {"host_images": ["registry.example/pause"]}))
        command = [sys.executable, "-m", "enclave_cc.node.daemon", "--config", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = json.loads(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"unix:{self.ready['snapshot_socket']}")

    def call(self, method, **request):
        schemas = SNAPSHOTS.methods[method]
        call = self.channel.unary_unary(f"/{SNAPSHOTS.name}/{method}")
        return decode(schemas.response, call(encode(schemas.request, request), timeout=10))

    def end(self, number):
        self.channel.close()
        self.process.send_signal(number)
        self.process.stdout.close()
        return self.process.wait(10)


@pytest.fixture
def daemons(short_tmp):
    started = []

    def start():
        started.append(Daemon(short_tmp))
        return started[-1]

    yield start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.end(signal.SIGKILL)


def test_a_container_is_resolved_through_containerd(client, containerd):
    containerd.containers["c1"] = IMAGE
    containerd.images[IMAGE] = MANIFEST
    image = client.image_of("k8s.io", "c1")
    assert (image.name, image.digest) == (IMAGE, MANIFEST)
    assert containerd.namespaces == ["k8s.io"]


@pytest.mark.parametrize("image", ["", IMAGE])
def test_an_unknown_container_or_image_is_the_callers_mistake(client, containerd, image):
    if image:
        containerd.containers["c1"] = image
    with pytest.raises(InvalidInputError) as caught:
        client.image_of("k8s.io", "c1")
    assert caught.value.code == "container-image-unknown"


def test_a_missing_containerd_is_told_from_a_missing_container(short_tmp):
    client = ContainerdClient(short_tmp / "nobody.sock")
    with pytest.raises(UnavailableError) as caught:
        client.image_of("k8s.io", "c1")
    assert caught.value.code == "containerd-unavailable"
    client.close()


def publish(containerd, user):
    containerd.images[IMAGE] = INDEX
    platforms = [{"digest": "sha256:" + "0" * 64, "platform": {"architecture": "arm64"}}]
    platforms.append({"digest": MANIFEST, "platform": {"architecture": "amd64"}})
    containerd.documents[INDEX] = json.dumps({"manifests": platforms}).encode()
    containerd.documents[MANIFEST] = json.dumps({"config": {"digest": CONFIG}}).encode()
    containerd.documents[CONFIG] = json.dumps({"config": {"User": user}}).encode()


@pytest.mark.parametrize(("user", "group"), [("app", "app"), ("app:staff", "staff")])
def test_a_named_user_gets_a_stand_in(client, containerd, tmp_path, user, group):
    publish(containerd, user)
    NamedUser(client).seed({IMAGE_LABEL: IMAGE}, tmp_path)
    assert "app:x:65532:" in (tmp_path / "etc" / "passwd").read_text()
    assert f"{group}:x:65532:" in (tmp_path / "etc" / "group").read_text()


@pytest.mark.parametrize("user", ["", "1000", "1000:1000", "root", "../x", "a\nroot:x:0:0::/:"])
def test_numbers_and_nonsense_get_none(client, containerd, tmp_path, user):
    publish(containerd, user)
    NamedUser(client).seed({IMAGE_LABEL: IMAGE}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"config": 7}'])
def test_a_damaged_manifest_only_costs_the_stand_in(client, containerd, tmp_path, document):
    publish(containerd, "app")
    containerd.documents[MANIFEST] = document
    NamedUser(client).seed({IMAGE_LABEL: IMAGE}, tmp_path)
    NamedUser(client).seed({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_shims_are_answered_and_bad_names_are_not(daemons, containerd, short_tmp):
    containerd.containers["c1"] = IMAGE
    containerd.images[IMAGE] = MANIFEST
    daemon = daemons()
    with TtrpcClient(daemon.ready["node_socket"]) as node:
        answer = node.call(NODE_SERVICE, "ResolveContainer", {"namespace": "k8s.io", "container_id": "c1"})
        assert answer == {"image": IMAGE, "manifest_digest": MANIFEST}
        with pytest.raises(InvalidInputError):
            node.call(NODE_SERVICE, "ResolveContainer", {"namespace": "k8s.io", "container_id": "c\n1"})


def test_sockets_are_for_root_only(daemons):
    daemon = daemons()
    for name in ("snapshot_socket", "node_socket"):
        assert os.stat(daemon.ready[name]).st_mode & 0o777 == 0o600  # noqa: PTH116 - a path as text
    assert daemon.end(signal.SIGTERM) == 0


def test_a_killed_daemon_comes_back_with_everything_it_answered(daemons, short_tmp):
    daemon = daemons()
    daemon.call("Prepare", key="active")
    labels = {REFERENCE_LABEL: "chain1", IMAGE_LABEL: IMAGE}
    with pytest.raises(grpc.RpcError):
        daemon.call("Prepare", key="layer", labels=labels)
    daemon.end(signal.SIGKILL)
    (short_tmp / "snapshot_root" / "snapshots" / "77").mkdir()
    daemon = daemons()
    assert daemon.call("Stat", key="layer")["info"]["labels"] == labels
    assert daemon.call("Mounts", key="active")["mounts"]
    assert daemon.call("Prepare", key="c1", parent="layer")["mounts"]
    assert not (short_tmp / "snapshot_root" / "snapshots" / "77").exists()


def test_the_configuration_survives_a_round_trip(tmp_path):
    text = json.dumps(
        members(tmp_path) | {"host_images": ["a"], "insecure_http_registries": ["r.example:5000"]}
    )
    config = NodeConfig.parse(text.encode())
    assert NodeConfig.parse(config.to_json()) == config


@pytest.mark.parametrize(
    "change", [{"state": "relative"}, {"state": 7}, {"host_images": [""]}, {"unknown": "x"}, {"runc": None}]
)
def test_a_wrong_member_is_refused_by_name(tmp_path, change):
    with pytest.raises(InvalidInputError) as caught:
        NodeConfig.parse(json.dumps(members(tmp_path) | change).encode())
    assert caught.value.code == "node-config-invalid"
    assert next(iter(change)) in caught.value.detail


def test_a_daemon_without_configuration_says_so(tmp_path):
    command = [sys.executable, "-m", "enclave_cc.node.daemon", "--config", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert done.returncode == 65
    assert json.loads(done.stderr)["code"] == "node-config-invalid"


def test_it_removes_at_its_start_what_dead_pods_left(short_tmp, daemons):
    sealed = short_tmp / "state" / "pods" / "dead" / "sealed" / "image"
    sealed.mkdir(parents=True)
    (sealed / "manifest.sealed").touch()
    daemons()
    give_up = time.monotonic() + 10
    while list((short_tmp / "state" / "pods").iterdir()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
