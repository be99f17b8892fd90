"""What an agent accepts to be started with."""

from __future__ import annotations

import json

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.enclave.agent.identity import AgentPaths, app_measurement, read_pod_uid
from enclave_cc.formats.initdata import InitData
from enclave_cc.formats.sgx.measurement import mr_enclave

INITDATA = InitData.parse('version = "0.1.0"\nalgorithm = "sha256"\n')


def test_all_paths_lie_below_the_root(tmp_path):
    paths = AgentPaths.below(tmp_path)
    assert paths.run == tmp_path / "run/enclave-cc"
    assert all(getattr(paths, name).is_relative_to(tmp_path) for name in AgentPaths.__slots__)


def test_the_app_enclaves_measurement_depends_on_boot_bundle_and_initdata(tmp_path):
    path = tmp_path / "boot.json"
    path.write_text(json.dumps({"base": "ab" * 32}))
    expected = mr_enclave(b"\xab" * 32, INITDATA.digest)
    assert app_measurement(path, INITDATA) == expected
    assert app_measurement(path, InitData.empty()) != expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"base": "zz"}', '{"base": "abcd"}', '{"base": 1}'])
def test_a_damaged_boot_identity_is_refused(tmp_path, text):
    path = tmp_path / "boot.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        app_measurement(path, INITDATA)
    assert caught.value.code == "boot-identity-invalid"


def test_an_agent_bundle_without_boot_identity_is_refused(tmp_path):
    with pytest.raises(InvalidInputError):
        app_measurement(tmp_path / "none", INITDATA)


def test_the_pods_name_is_read(tmp_path):
    path = tmp_path / "pod.json"
    path.write_text(json.dumps({"pod_uid": "u", "name": "web"}))
    assert read_pod_uid(path) == "u"


@pytest.mark.parametrize("text", ["", "{}", '{"pod_uid": 1}'])
def test_a_damaged_pod_description_is_refused(tmp_path, text):
    path = tmp_path / "pod.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        read_pod_uid(path)
    assert caught.value.code == "pod-description-invalid"
