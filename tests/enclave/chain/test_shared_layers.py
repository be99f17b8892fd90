"""Two containers of one image in one pod: one opening, two keys, two answers of the broker, two lives."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace

import pytest
from tests.enclave.chain.conftest import LARGE, SMALL, Boot, container_spec, start_pod

from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.node.bundles.reference import reference_value

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
def sharing(world):
    """A pod whose owner lets its containers share layers, which is the default."""
    text = world.initdata.replace("share_layers = false", "")
    with world.admin() as admin, contextlib.ExitStack() as stack:
        admin.add_reference_value("sgx_mr_enclave", [reference_value(world.bundles.agent, text)])
        yield start_pod(replace(world, initdata=text), stack, "pod-sharing")


def blobs_of(pod, prepared):
    return {path.stat().st_ino: path for path in (pod.sealed / prepared["sealed_image"]).glob("*.blob")}


def prepared_events(pod):
    lines = map(json.loads, (pod.directory / "agent.log").read_text().splitlines())
    return [line for line in lines if line["event"] == "prepared"]


def test_both_containers_run_and_the_second_outlives_the_first(sharing, world):
    requests = {name: fresh_request_id() for name in ("c-one", "c-two")}
    prepared = {}
    for name, request in requests.items():
        prepared[name] = sharing.prepare(name, container_spec(), request_id=request)
    one, two = (blobs_of(sharing, prepared[name]) for name in requests)
    assert len(one.keys() & two.keys()) == 2
    assert not {path.name for path in one.values()} & {path.name for path in two.values()}
    assert [event["reused_layers"] for event in prepared_events(sharing)] == [0, 2]
    # The broker was asked for the layers' key by each.
    for request in requests.values():
        events = world.explain(request)["events"]
        assert "default/key/busybox" in json.dumps(events), events
    with contextlib.ExitStack() as stack:
        boots = {}
        for name in requests:
            boots[name] = Boot(sharing, name, prepared[name]["sealed_image"], container_spec())
            stack.callback(boots[name].stop)
            assert boots[name].message()["pid"] > 0
            boots[name].start()
            boots[name].read_until(SMALL)
        boots["c-one"].stop()
        sharing.call("Discard", container_id="c-one")
        assert not (sharing.sealed / prepared["c-one"]["sealed_image"]).exists()
        spec = container_spec(args=["/bin/sh", "-c", "md5sum /large"], cwd="/")["process"]
        request = {"request_id": fresh_request_id(), "container_id": "c-two"}
        approved = sharing.call("AuthorizeExec", **request, process=json.dumps(spec).encode())["process"]
        assert boots["c-two"].exec(approved).stdout.decode().startswith(hashlib.md5(LARGE).hexdigest())
