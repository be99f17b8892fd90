import base64
import json

import pytest
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.places.registry_access import RegistryAccess


def push(layout, host, access):
    try:
        with (
            open_reader(f"oci:{layout.directory}") as reader,
            open_writer(f"{host}/team/app:v1", access.client) as writer,
        ):
            return copy_image(reader, writer)
    finally:
        access.close()


def login(path, host):
    auth = base64.b64encode(b"alice:secret").decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


@pytest.mark.parametrize("where", ["option", "environment", "home"])
def test_credentials_come_from_where_people_log_in(tmp_path, plain, where):
    with running_registry() as simulator:
        simulator.auth = "basic"
        environment = {"HOME": str(tmp_path)}
        option = None
        match where:
            case "option":
                option = login(tmp_path / "auth.json", simulator.host)
            case "environment":
                environment["REGISTRY_AUTH_FILE"] = str(login(tmp_path / "auth.json", simulator.host))
            case _:
                login(tmp_path / ".docker" / "config.json", simulator.host)
        access = RegistryAccess.from_environment([simulator.host], auth_file=option, environment=environment)
        push(plain, simulator.host, access)
        assert ("team/app", "v1") in simulator.manifests


def test_without_credentials_the_registry_says_no(tmp_path, plain):
    with running_registry() as simulator:
        simulator.auth = "basic"
        access = RegistryAccess.from_environment([simulator.host], environment={"HOME": str(tmp_path)})
        with pytest.raises(InvalidInputError) as caught:
            push(plain, simulator.host, access)
        assert caught.value.code == "registry-access-denied"
        assert simulator.manifests == {}


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "http_proxy"])
def test_a_proxy_that_makes_no_sense_is_named(name):
    with pytest.raises(InvalidInputError) as caught:
        RegistryAccess.from_environment(environment={name: "no proxy"})
    assert caught.value.code == "proxy-invalid"


def test_http_proxy_in_capitals_is_not_read():
    RegistryAccess.from_environment(environment={"HTTP_PROXY": "no proxy"}).close()
