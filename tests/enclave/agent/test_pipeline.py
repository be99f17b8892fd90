"""What the pipeline leaves behind, and what it says, when a preparation fails."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.enclave.agent.event_log import EventLog
from enclave_cc.enclave.agent.pipeline import ImagePipeline, PodContext
from enclave_cc.enclave.agent.release import PendingReleases
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.owner_settings import OwnerSettings, WorkloadPolicy

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
        pipeline(tmp_path / "missing")._seal(SimpleNamespace(container_id="c1"), image, None, None)
    assert caught.value.code == "sealed-store-unwritable"


def test_a_launch_that_could_not_be_released_is_refused_before_any_layer(tmp_path):
    process = {"args": ["/bin/x"], "env": [f"A{number}={'x' * 60000}" for number in range(20)]}
    request = SimpleNamespace(spec=json.dumps({"process": process}).encode())
    image = SimpleNamespace(manifest_digest="sha256:aa", config=IMAGE)
    with pytest.raises(InvalidInputError) as caught:
        pipeline(tmp_path)._approve(request, image)
    assert caught.value.code == "runtime-spec-invalid"
