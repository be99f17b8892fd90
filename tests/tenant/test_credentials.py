"""Where a person's credentials are looked for, and in which order."""

import base64
import json

import pytest

from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.credentials import credentials_for_people

IMAGE = Reference.parse("registry.example/app")
PLACES = ("run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json")


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{path}:x".encode()).decode()
    path.write_text(json.dumps({"auths": {"registry.example": {"auth": auth}}}))


@pytest.mark.parametrize("present", range(len(PLACES)))
def test_each_place_counts_where_those_before_it_are_empty(tmp_path, present):
    for place in PLACES[present:]:
        write(tmp_path / place)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path / "home")}
    found = credentials_for_people(environment)(IMAGE)
    assert found.username == str(tmp_path / PLACES[present])


def test_a_file_that_is_named_is_the_only_one(tmp_path):
    write(tmp_path / PLACES[2])
    environment = {"REGISTRY_AUTH_FILE": str(tmp_path / "other"), "HOME": str(tmp_path / "home")}
    assert credentials_for_people(environment)(IMAGE) is None
    write(tmp_path / "other")
    assert credentials_for_people(environment)(IMAGE).username == str(tmp_path / "other")


def test_dockers_own_variable_is_heard(tmp_path):
    write(tmp_path / "docker" / "config.json")
    environment = {"DOCKER_CONFIG": str(tmp_path / "docker"), "HOME": str(tmp_path / "home")}
    assert credentials_for_people(environment)(IMAGE) is not None
