"""What the shim may ask of the agent, and what the owner hears of the answers."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.enclave.agent.agent_service import AgentService
from enclave_cc.enclave.agent.prepare import Preparations, Prepared
from enclave_cc.enclave.agent.started import StartedContainers
from enclave_cc.formats.launch import LaunchConfiguration
from enclave_cc.formats.messages.agent import AGENT_SERVICE
from enclave_cc.formats.protobuf import decode, encode
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

LAUNCH = LaunchConfiguration(("/bin/x",), (), "/", "", "sha256:aa")


class Reports:
    def __init__(self):
        self.refusals = []

    def refused(self, request_id, error, session=None):
        self.refusals.append((request_id, error.code))


@pytest.fixture
def reports():
    return Reports()


def service(reports, pipeline=lambda *_: Prepared("sha256:aa", "directory", "key", LAUNCH)):
    preparations = Preparations(pipeline, forget=lambda *_: None)
    return AgentService(preparations, StartedContainers(), reports, pod_uid="pod", tee="sgx-sim")


def request(**changes):
    wanted = {
        "container_id": "c1",
        "image": "registry.example/app:v1",
        "manifest_digest": "",
        "spec": b"",
        "request_id": fresh_request_id(),
    }
    return wanted | changes


def test_the_owner_hears_of_a_container_whose_image_would_be_swapped(reports):
    agent = service(reports)
    assert agent.prepare(request(), None)["sealed_image"] == "directory"
    swap = request(image="registry.example/evil")
    with pytest.raises(RefusedError):
        agent.prepare(swap, None)
    assert reports.refusals == [(swap["request_id"], "container-already-prepared")]


def test_the_status_tells_how_far_a_preparation_is(reports):
    entered, gate = threading.Event(), threading.Event()

    def pipeline(_, course):
        course.progress.enter(Stage.FETCH)
        first, _ = course.progress.expect([100, 50])
        first.arrived_bytes, first.finished = 100, True
        entered.set()
        assert gate.wait(10)
        return Prepared("sha256:aa", "directory", "key", LAUNCH)

    agent = service(reports, pipeline)
    assert agent.status({}, None)["preparations"] == []
    caller = threading.Thread(target=agent.prepare, args=(request(), None))
    caller.start()
    assert entered.wait(10)
    status = agent.status({}, None)
    gate.set()
    caller.join(10)
    assert status["preparations"] == [
        {
            "container_id": "c1",
            "stage": "fetch",
            "layers": 2,
            "finished_layers": 1,
            "arrived_bytes": 100,
            "total_bytes": 150,
            "reused_layers": 0,
        }
    ]
    schema = AGENT_SERVICE.methods["Status"].response
    assert decode(schema, encode(schema, status)) == status
    assert agent.status({}, None)["preparations"] == []


def test_the_status_tells_where_a_container_keeps_what_it_writes(reports):
    rootfs = RootfsOptions(Writable.SCRATCH, 64 << 20, decrypt_to_memory=True)
    launch = replace(LAUNCH, rootfs=rootfs)
    agent = service(reports, lambda *_: Prepared("sha256:aa", "directory", "key", launch))
    agent.prepare(request(), None)
    status = agent.status({}, None)
    assert status["containers"] == [
        {
            "container_id": "c1",
            "rootfs_writable": "scratch",
            "rootfs_writable_bytes": 64 << 20,
            "rootfs_decrypt_to_memory": True,
        }
    ]
    schema = AGENT_SERVICE.methods["Status"].response
    assert decode(schema, encode(schema, status)) == status
    agent.discard({"container_id": "c1"}, None)
    assert agent.status({}, None)["containers"] == []


def test_a_container_that_was_refused_is_none(reports):
    def pipeline(*_):
        raise RefusedError("signature-missing", "x", stage=Stage.VERIFY)

    agent = service(reports, pipeline)
    with pytest.raises(RefusedError):
        agent.prepare(request(), None)
    assert agent.status({}, None)["containers"] == []


def test_what_the_pipeline_refused_it_reported_itself(reports):
    def pipeline(*_):
        raise RefusedError("signature-missing", "x", stage=Stage.VERIFY)

    with pytest.raises(RefusedError):
        service(reports, pipeline).prepare(request(), None)
    assert reports.refusals == []
