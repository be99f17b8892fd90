"""Files of container tools and the helpers they name."""

import base64
import json
import os
import time

import pytest

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.transport.registry.credential_files import CredentialFiles
from enclave_cc.transport.registry.credential_helper import ask_helper

IMAGE = Reference.parse("registry.example/team/app:1")


def write(path, user, key="registry.example", **more):
    auth = base64.b64encode(f"{user}:x".encode()).decode()
    path.write_text(json.dumps({"auths": {key: {"auth": auth}}, **more}))
    return path


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a helper that is a shell script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def install(script):
        program = programs / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return install


def test_the_first_file_that_knows_the_registry_wins(tmp_path):
    other = write(tmp_path / "1", "other", key="other.example")
    first, second = write(tmp_path / "2", "first"), write(tmp_path / "3", "second")
    files = CredentialFiles([tmp_path / "absent", other, first, second])
    assert files(IMAGE).username == "first"
    assert files(Reference.parse("unknown.example/app")) is None


def test_an_empty_file_and_one_below_a_file_are_no_files(tmp_path):
    (tmp_path / "empty").write_bytes(b"\n")
    assert CredentialFiles([tmp_path / "empty", tmp_path / "empty" / "below"])(IMAGE) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        CredentialFiles([tmp_path])(IMAGE)
    assert caught.value.code == "file-unusable"
    assert str(tmp_path) in caught.value.detail


def test_a_helper_is_asked_where_the_file_names_one(tmp_path):
    asked = []

    def ask(name, registry):
        asked.append((name, registry))
        return Credentials("from", name)

    path = tmp_path / "config.json"
    path.write_text(
        '{"auths":{"registry.example":{}},"credHelpers":{"registry.example":"one"},"credsStore":"two"}'
    )
    files = CredentialFiles([path], helper=ask)
    assert files(IMAGE).password == "one"
    assert files(Reference.parse("busybox")).password == "two"
    assert asked == [("one", "registry.example"), ("two", "docker.io")]


def test_a_helper_gets_the_registry_on_its_standard_input(helper):
    answer = '{"ServerURL":"x","Username":"%s","Secret":"s"}'
    helper(f"""[ "$1" = get ] && read server; printf '{answer}' "$server" """)
    assert ask_helper("test", "registry.example") == Credentials("registry.example", "s")
    assert ask_helper("test", "docker.io").username == "https://index.docker.io/v1/"


def test_a_helper_may_answer_with_an_identity_token(helper):
    helper("""echo '{"ServerURL":"x","Username":"<token>","Secret":"i"}'""")
    assert ask_helper("test", "registry.example") == Credentials(identity_token="i")


def test_a_helper_that_knows_nothing_is_no_failure(helper):
    helper("echo credentials not found in native keychain; exit 1")
    assert ask_helper("test", "registry.example") is None


@pytest.mark.parametrize("script", ["exit 3", "echo broken; exit 1", "yes | head -c 100000; sleep 60"])
def test_a_helper_that_fails_or_babbles_is_reported(helper, script):
    helper(script)
    with pytest.raises(UnavailableError) as caught:
        ask_helper("test", "registry.example")
    assert caught.value.code == "credential-helper-failed"
    assert "docker-credential-test" in caught.value.detail


def test_a_helper_that_hangs_is_ended_with_its_children(helper):
    helper("sleep 60 & wait")
    start = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        ask_helper("test", "registry.example", timeout_s=0.2)
    assert "no answer" in caught.value.detail
    assert time.monotonic() - start < 10


def test_an_absent_helper_is_reported():
    with pytest.raises(UnavailableError) as caught:
        ask_helper("absent-from-this-machine", "registry.example")
    assert caught.value.code == "credential-helper-failed"


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", "-x", "a" * 65])
def test_a_name_that_could_be_a_path_or_an_option_is_refused(name):
    with pytest.raises(InvalidInputError) as caught:
        ask_helper(name, "registry.example")
    assert caught.value.code == "registry-credentials-invalid"


def test_an_answer_that_is_none_is_refused(helper):
    helper("echo hello")
    with pytest.raises(InvalidInputError) as caught:
        ask_helper("test", "registry.example")
    assert caught.value.code == "registry-credentials-invalid"
