"""What the shim may ask of the agent, and what the owner hears of the answers."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.enclave.agent.agent_service import AgentService
from enclave_cc.enclave.agent.prepare import Preparations, Prepared
from enclave_cc.enclave.agent.started import StartedContainers
from enclave_cc.formats.launch import LaunchConfiguration

LAUNCH = LaunchConfiguration(("/bin/x",), (), "/", "", "sha256:aa")


class Reports:
    def __init__(self):
        self.refusals = []

    def refused(self, request_id, error, session=None):
        self.refusals.append((request_id, error.code))


@pytest.fixture
def reports():
    return Reports()


def service(reports, pipeline=lambda _: Prepared("sha256:aa", "directory", "key", LAUNCH)):
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


def test_what_the_pipeline_refused_it_reported_itself(reports):
    def pipeline(_):
        raise RefusedError("signature-missing", "x", stage=Stage.VERIFY)

    with pytest.raises(RefusedError):
        service(reports, pipeline).prepare(request(), None)
    assert reports.refusals == []
