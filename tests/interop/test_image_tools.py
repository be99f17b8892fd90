"""The image commands between a registry and skopeo, both made by others."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.interop.programs import program, running_debian_registry
from tests.tenant.conftest import image_in

from enclave_cc.cli.main import main
from enclave_cc.tenant.places.image_layout import ImageLayout

KID = "kbs:///team/keys/app"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with running_debian_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_in(ImageLayout.create(tmp_path / "app"))
    (tmp_path / "image.key").write_bytes(bytes(range(32)))
    (tmp_path / "next.key").write_bytes(bytes(32))
    return tmp_path


def ours(host, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["image", *arguments, "--insecure-http", host, "--quiet"])
    assert ended.value.code == 0


def skopeo(*arguments):
    command = [program("skopeo"), "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def digest(path):
    layout = ImageLayout.open(path)
    return layout.find().digest


def test_skopeo_carries_an_encrypted_image_that_opens_again(host, place):
    remote = f"{host}/team/carried:v1"
    ours(host, "encrypt", "app", remote, "--key", "image.key", "--key-id", KID)
    told = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{remote}"))
    assert all(layer["mediaType"].endswith("+encrypted") for layer in told["layers"])
    skopeo("copy", "--src-tls-verify=false", f"docker://{remote}", f"oci:{place}/by-skopeo:latest")
    ours(host, "decrypt", "oci:by-skopeo", "oci:back", "--key", "image.key")
    assert digest(place / "back") == digest(place / "app")


def test_a_docker_image_goes_from_registry_to_registry_and_comes_back_as_it_was(host, place):
    plain, encrypted, back = (f"{host}/team/{name}:v1" for name in ("docker", "docker-enc", "docker-back"))
    skopeo("copy", "--dest-tls-verify=false", "--format=v2s2", f"oci:{place}/app", f"docker://{plain}")
    ours(host, "encrypt", plain, encrypted, "--key", "image.key", "--key-id", KID)
    ours(host, "rewrap", encrypted, encrypted, "--key", "image.key", "--add-recipient", f"{KID}-2=next.key")
    ours(host, "decrypt", encrypted, back, "--key", "next.key")
    raw = [skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}") for name in (plain, back)]
    assert raw[0] == raw[1]
    assert "vnd.docker.distribution.manifest.v2" in raw[0]


def test_signatures_survive_a_registry_without_a_referrers_api(host, place):
    remote = f"{host}/team/signed:v1"
    ours_key = ("--key", "image.key", "--key-id", KID)
    with pytest.raises(SystemExit):
        main(["image", "keygen", "keys"])
    ours(host, "encrypt", "app", remote, *ours_key, "--sign", "keys/cosign.key")
    ours(host, "copy", remote, "oci-archive:carried.tar", "--signatures")
    ours(host, "copy", "oci-archive:carried.tar", f"{host}/team/arrived:v1", "--signatures")
    arrived = ("verify", f"{host}/team/arrived:v1", "--key", "keys/cosign.pub")
    with pytest.raises(SystemExit) as ended:
        main(["image", *arrived, "--as", remote, "--require-encrypted", "--insecure-http", host])
    assert ended.value.code == 0
