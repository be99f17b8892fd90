"""Registry credentials as container tools write them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.auth_file import AuthFile
from enclave_cc.formats.registries.credentials import Credentials, normal_key
from enclave_cc.formats.registries.helper_answer import parse_credentials, parse_helper_answer


def auth(text):
    return {"auth": base64.b64encode(text.encode()).decode()}


def parse(auths, **more):
    return AuthFile.parse(json.dumps({"auths": auths, **more}).encode())


def found(file, image):
    return file.find(Reference.parse(image))


def test_users_and_passwords_are_read():
    file = parse(
        {
            "registry.example:5000": auth("alice:a:b"),
            "plain.example": {"username": "carol", "password": "c"},
            "lines.example": auth("dora:d\n\0"),
        }
    )
    assert found(file, "registry.example:5000/app") == Credentials("alice", "a:b")
    assert found(file, "plain.example/app") == Credentials("carol", "c")
    assert found(file, "lines.example/app") == Credentials("dora", "d")


def test_tokens_are_read():
    file = parse(
        {
            "a.example": {**auth("<token>:"), "identitytoken": "i"},
            "b.example": {"registrytoken": "r"},
        }
    )
    assert found(file, "a.example/app").identity_token == "i"
    assert found(file, "b.example/app").registry_token == "r"


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "index.docker.io/v1/",
        "index.docker.io",
        "registry-1.docker.io",
        "docker.io",
        "http://docker.io",
    ],
)
def test_docker_hub_has_many_names(key):
    assert normal_key(key) == "docker.io"
    assert found(parse({key: auth("bob:x")}), "busybox") == Credentials("bob", "x")


def test_an_address_with_a_scheme_is_a_registrys_and_a_path_without_one_a_repositorys():
    assert normal_key("https://Registry.example:5000/v2/") == "registry.example:5000"
    assert normal_key("registry.example/team/") == "registry.example/team"


@pytest.mark.parametrize(
    ("image", "user"),
    [
        ("registry.example/team/app/web:1", "web"),
        ("registry.example/team/app:1", "app"),
        ("registry.example/team/apple:1", "team"),
        ("registry.example/other/app:1", "registry"),
        ("registry.example:5000/team/app", None),
        ("other.example/registry.example/team/app", None),
        ("evilregistry.example/team", None),
    ],
)
def test_the_longest_key_that_covers_an_image_wins(image, user):
    keys = {
        "registry.example/team/app/web": auth("web:x"),
        "registry.example/team/app": auth("app:x"),
        "registry.example": auth("registry:x"),
        "registry.example/team": auth("team:x"),
    }
    credentials = found(parse(keys), image)
    assert (credentials and credentials.username) == user


def test_a_key_written_in_full_wins_over_an_alias_of_it():
    file = parse({"docker.io": auth("right:x"), "https://index.docker.io/v1/": auth("alias:x")})
    assert found(file, "busybox").username == "right"


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"email": "x"}, {"username": "u"}, auth("user:")])
def test_entries_without_anything_usable_do_not_hide_the_others(entry):
    file = parse({"registry.example/team": entry, "registry.example": auth("alice:x")})
    assert found(file, "registry.example/team/app").username == "alice"


def test_a_file_with_helpers_only_is_a_file():
    file = AuthFile.parse(
        b'{"credHelpers":{"https://a.example":"one"},"credsStore":"two","experimental":"x"}'
    )
    assert file.find(Reference.parse("a.example/app")) is None
    assert file.helper_for(Reference.parse("a.example/app")) == "one"
    assert file.helper_for(Reference.parse("b.example/app")) == "two"


@pytest.mark.parametrize(
    "entry", [{"auth": "§"}, auth("no-colon"), {"auth": 1}, [], {"registrytoken": "a\r\nX-Other: b"}]
)
def test_malformed_entries_are_refused(entry):
    with pytest.raises(InvalidInputError) as caught:
        parse({"registry.example": entry})
    assert caught.value.code == "registry-credentials-invalid"


def test_a_helpers_answer_is_accepted_alone_and_in_a_list():
    one = {"ServerURL": "https://a.example/v2/", "Username": "alice", "Secret": "x"}
    two = {"ServerURL": "b.example/team", "Username": "<token>", "Secret": "i"}
    empty = {"ServerURL": "c.example", "Username": "", "Secret": ""}
    alone = parse_credentials(json.dumps(one).encode())
    assert found(alone, "a.example/app") == Credentials("alice", "x")
    listed = parse_credentials(json.dumps([one, two, empty]).encode())
    assert found(listed, "a.example/app") == Credentials("alice", "x")
    assert found(listed, "b.example/team/app") == Credentials(identity_token="i")
    assert found(listed, "b.example/other") is None
    assert found(listed, "c.example/app") is None


@pytest.mark.parametrize(
    "answer", [b"[1]", b'[{"Username":"a","Secret":"b"}]', b'[{"ServerURL":"a","Secret":1}]', b"7"]
)
def test_a_helpers_answer_that_makes_no_sense_is_refused(answer):
    with pytest.raises(InvalidInputError) as caught:
        parse_credentials(answer)
    assert caught.value.code == "registry-credentials-invalid"


def test_no_secret_is_in_a_repr():
    shown = repr(Credentials("alice", "hidden", "hidden", "hidden"))
    assert "alice" in shown
    assert "hidden" not in shown


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='{}[]":,ServURLauth01', max_size=60)))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    data = data if isinstance(data, bytes) else data.encode()
    for parser in (AuthFile.parse, parse_credentials, parse_helper_answer):
        try:
            parser(data)
        except InvalidInputError as error:
            assert error.code == "registry-credentials-invalid"  # noqa: PT017
