"""What the pipeline leaves behind, and what it says, when a preparation fails."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.simulators.registry import RegistrySimulator, running_registry

from enclave_cc.core.errors import InvalidInputError, RefusedError, UnavailableError
from enclave_cc.enclave.agent.broker import NoBroker
from enclave_cc.enclave.agent.event_log import EventLog
from enclave_cc.enclave.agent.layers import LayerWork
from enclave_cc.enclave.agent.pipeline import ImagePipeline, PodContext
from enclave_cc.enclave.agent.prepare import Preparations, PrepareRequest
from enclave_cc.enclave.agent.registries import RegistryOpener
from enclave_cc.enclave.agent.release import PendingReleases
from enclave_cc.formats.launch import LaunchConfiguration
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.owner.limits import Limits
from enclave_cc.formats.owner.rootfs import RootfsPolicy
from enclave_cc.formats.owner.settings import OwnerSettings, WorkloadPolicy
from enclave_cc.formats.rootfs_annotations import WRITABLE, WRITABLE_SIZE
from enclave_cc.formats.rootfs_options import Writable
from enclave_cc.image.layers.progress import Progress
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.transport.registry.client import RegistryClient

if TYPE_CHECKING:
    from pathlib import Path

# Far from the minute for which the registry is silent, and far from what a busy machine needs.
SOON_S = 15
IMAGE = ImageConfig(os="linux", architecture="amd64", diff_ids=())


def pipeline(sealed_root):
    return ImagePipeline(
        PodContext("pod", OwnerSettings(workload=WorkloadPolicy.unrestricted()), sealed_root, sealed_root),
        open_session=None,
        open_registry=None,
        releases=PendingReleases(clock=lambda: 0.0),
        reporter=None,
        log=EventLog(io.StringIO(), clock=lambda: 0.0),
    )


def test_a_directory_that_cannot_be_made_has_a_reason(tmp_path):
    image = SimpleNamespace(manifest_digest="sha256:aa", layers=())
    with pytest.raises(UnavailableError) as caught:
        pipeline(tmp_path / "missing")._seal(
            SimpleNamespace(container_id="c1"), image, LayerWork(None, None), Progress()
        )
    assert caught.value.code == "sealed-store-unwritable"


def test_a_launch_that_could_not_be_released_is_refused_before_any_layer(tmp_path):
    process = {"args": ["/bin/x"], "env": [f"A{number}={'x' * 60000}" for number in range(20)]}
    request = SimpleNamespace(spec=json.dumps({"process": process}).encode())
    image = SimpleNamespace(manifest_digest="sha256:aa", config=IMAGE)
    with pytest.raises(InvalidInputError) as caught:
        pipeline(tmp_path)._approve(request, image)
    assert caught.value.code == "runtime-spec-invalid"


def asking(**annotations):
    spec = {"process": {"args": ["/bin/x"]}, "annotations": annotations}
    return SimpleNamespace(spec=json.dumps(spec).encode())


def test_what_a_pod_may_choose_reaches_its_app_enclave(tmp_path):
    image = SimpleNamespace(manifest_digest="sha256:aa", config=IMAGE)
    request = asking(**{WRITABLE: "scratch", WRITABLE_SIZE: "64Mi"})
    launch = LaunchConfiguration.parse(pipeline(tmp_path)._approve(request, image).to_bytes())
    assert (launch.rootfs.writable, launch.rootfs.writable_bytes) == (Writable.SCRATCH, 64 << 20)


def test_what_a_pod_may_not_choose_is_refused_before_any_layer(tmp_path):
    image = SimpleNamespace(manifest_digest="sha256:aa", config=IMAGE)
    with pytest.raises(RefusedError) as caught:
        pipeline(tmp_path)._approve(asking(**{WRITABLE_SIZE: "2Gi"}), image)
    assert caught.value.code == "rootfs-policy-refused"


class Refusals:
    def __init__(self):
        self.codes = []

    def refused(self, _request_id, error, _session=None):
        self.codes.append(error.code)


@dataclass
class Node:
    """A pod's agent, a registry with one image, and what both left."""

    preparations: Preparations
    registry: RegistrySimulator
    refusals: Refusals
    events: io.StringIO
    sealed: Path
    image: str

    def request(self, container_id="c1"):
        return PrepareRequest(container_id, self.image, "", b"", "r1")

    def leftovers(self):
        """Files, and threads that do not end at once."""
        names = {"prepare", "layer", "layer-read", "layer-inflate"}
        threads = [thread for thread in threading.enumerate() if thread.name in names]
        for thread in threads:
            thread.join(1)
        return [*self.sealed.iterdir(), *(thread for thread in threads if thread.is_alive())]


@pytest.fixture
def pull_seconds():
    return 30


@pytest.fixture
def share_layers():
    return True


@pytest.fixture
def session():
    return NoBroker()


@pytest.fixture
def node(tmp_path, pull_seconds, share_layers, session):
    with running_registry() as registry:
        layout = ImageLayout.create(tmp_path / "layout")
        tars = [LayerBuilder().file(f"file{number}", os.urandom(400_000)).tar() for number in range(3)]
        build_image(layout, [LayerInput(tar) for tar in tars], ProcessDescription(entrypoint=("/file0",)))
        reference = Reference.parse(f"{registry.host}/team/app:1")
        with closing(RegistryClient(insecure_http=[registry.host])) as client:
            push_image(layout, reference, client)
        settings = OwnerSettings(
            insecure_accept_unsigned=True,
            insecure_http_registries=(registry.host,),
            limits=Limits(pull_seconds=pull_seconds),
            rootfs=RootfsPolicy(share_layers=share_layers),
        )
        (tmp_path / "sealed").mkdir()
        refusals, events = Refusals(), io.StringIO()
        pipeline = ImagePipeline(
            PodContext("pod", settings, tmp_path / "sealed", tmp_path / "no-cache"),
            open_session=lambda _: session,
            open_registry=RegistryOpener(settings),
            releases=PendingReleases(clock=lambda: 0.0),
            reporter=refusals,
            log=EventLog(events, clock=lambda: 0.0),
        )
        preparations = Preparations(pipeline, forget=pipeline.forget)
        yield Node(preparations, registry, refusals, events, tmp_path / "sealed", str(reference))
        preparations.close()


def test_a_preparation_tells_how_far_it_is(node):
    prepared = node.preparations.prepare(node.request())
    assert (node.sealed / prepared.sealed_image / "manifest.sealed").exists()
    lines = [json.loads(line) for line in node.events.getvalue().splitlines()]
    progress = [line for line in lines if line["event"] == "progress"]
    assert {line["stage"] for line in progress} <= {"fetch", "seal"}
    assert progress[0]["layers"] == 3
    assert lines[-1]["event"] == "prepared"
    assert (lines[-1]["rootfs_writable"], lines[-1]["rootfs_writable_bytes"]) == ("memory", 1 << 30)


@pytest.mark.parametrize("after", [0, 1000, 300_000])
def test_discarding_ends_a_pull_from_a_silent_registry_within_a_second(node, after):
    node.registry.stalls_after = after
    result = node.preparations.join(node.request())
    assert node.registry.stalled.wait(10)
    begun = time.monotonic()
    node.preparations.discard("c1")
    with pytest.raises(UnavailableError) as caught:
        result.result(10)
    assert time.monotonic() - begun < SOON_S
    assert caught.value.code == "cancelled"
    assert node.refusals.codes == []
    node.preparations.close()
    assert node.leftovers() == []


@pytest.mark.parametrize("pull_seconds", [1])
def test_the_owner_says_how_long_a_pull_may_take(node):
    node.registry.stalls_after = 1000
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        node.preparations.prepare(node.request())
    assert 0.9 < time.monotonic() - begun < SOON_S
    assert caught.value.code == "deadline-exceeded"
    assert node.refusals.codes == ["deadline-exceeded"]
    assert node.leftovers() == []


def test_the_end_of_the_agent_ends_a_pull_from_a_silent_registry(node):
    node.registry.stalls_after = 1000
    node.preparations.join(node.request())
    assert node.registry.stalled.wait(10)
    begun = time.monotonic()
    node.preparations.close()
    assert time.monotonic() - begun < SOON_S
    assert node.leftovers() == []


def test_a_bad_layer_is_told_to_the_owner_and_leaves_nothing(node):
    digest = max(node.registry.blobs, key=lambda name: len(node.registry.blobs[name]))
    node.registry.lies[digest] = bytes(len(node.registry.blobs[digest]))
    with pytest.raises(RefusedError):
        node.preparations.prepare(node.request())
    assert node.refusals.codes == ["layer-digest-mismatch"]
    assert node.leftovers() == []


def test_a_bad_layer_ends_those_that_a_silent_registry_keeps(node):
    # The lowest layer: with two threads the highest one would wait for those that are kept.
    body, _ = node.registry.manifests["team/app", "1"]
    manifest = Manifest.parse(body)
    config, bad = str(manifest.config.digest), str(manifest.layers[0].digest)
    node.registry.lies[bad] = bytes(len(node.registry.blobs[bad]))
    node.registry.never_stall = {config, bad}
    node.registry.stalls_after = 1000
    begun = time.monotonic()
    with pytest.raises(RefusedError):
        node.preparations.prepare(node.request())
    assert time.monotonic() - begun < SOON_S
    assert node.refusals.codes == ["layer-digest-mismatch"]
    assert node.leftovers() == []


def test_after_a_cancellation_the_same_container_can_be_prepared(node):
    node.registry.stalls_after = 1000
    node.preparations.join(node.request())
    assert node.registry.stalled.wait(10)
    node.preparations.discard("c1")
    node.registry.stalls_after = None
    node.preparations.close()
    assert node.preparations.prepare(node.request()).sealed_image


def prepared_event(node):
    return [json.loads(line) for line in node.events.getvalue().splitlines()][-1]


def inodes(node, prepared):
    directory = node.sealed / prepared.sealed_image
    return {path.stat().st_ino for path in directory.glob("*.blob")}


def test_a_second_container_of_the_same_image_is_prepared_without_its_layers(node):
    first = node.preparations.prepare(node.request("c1"))
    body, _ = node.registry.manifests["team/app", "1"]
    for layer in Manifest.parse(body).layers:
        del node.registry.blobs[str(layer.digest)]
    second = node.preparations.prepare(node.request("c2"))
    assert prepared_event(node)["reused_layers"] == 3
    # All but the metadata, under names of their own.
    assert len(inodes(node, first) & inodes(node, second)) == 3
    node.preparations.discard("c1")
    third = node.preparations.prepare(node.request("c3"))
    assert inodes(node, second) & inodes(node, third)


def test_the_last_container_takes_the_layers_with_it(node):
    for container_id in ("c1", "c2"):
        node.preparations.prepare(node.request(container_id))
    for container_id in ("c1", "c2"):
        node.preparations.discard(container_id)
    assert node.leftovers() == []
    node.preparations.prepare(node.request("c3"))
    assert prepared_event(node)["reused_layers"] == 0


@pytest.mark.parametrize("share_layers", [False])
def test_the_owner_says_whether_layers_are_shared(node):
    prepared = [node.preparations.prepare(node.request(name)) for name in ("c1", "c2")]
    assert prepared_event(node)["reused_layers"] == 0
    assert not inodes(node, prepared[0]) & inodes(node, prepared[1])


class NoToken(NoBroker):
    def fresh_token(self):
        raise UnavailableError("broker-unavailable", "gone", stage="attest")


@pytest.mark.parametrize("session", [NoToken()])
def test_a_broker_that_is_gone_at_the_end_leaves_nothing(node):
    with pytest.raises(UnavailableError):
        node.preparations.prepare(node.request())
    assert node.leftovers() == []
