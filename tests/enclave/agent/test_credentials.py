"""Registry credentials as container tools write them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.enclave.agent.credentials import parse_credentials


def auth(text):
    return {"auth": base64.b64encode(text.encode()).decode()}


def parse(auths):
    return parse_credentials(json.dumps({"auths": auths}).encode())


def test_hosts_and_passwords_are_read():
    known = parse({"registry.example:5000": auth("alice:a:b"), "https://index.docker.io/v1/": auth("bob:x")})
    assert known == {"registry.example:5000": ("alice", "a:b"), "docker.io": ("bob", "x")}


def test_entries_without_a_password_are_skipped():
    assert parse({"registry.example": {}, "other.example": {"identitytoken": "x"}}) == {}


@pytest.mark.parametrize("entry", [{"auth": "§"}, auth("no-colon"), {"auth": 1}, []])
def test_malformed_entries_are_refused(entry):
    with pytest.raises(InvalidInputError) as caught:
        parse({"registry.example": entry})
    assert caught.value.code == "registry-credentials-invalid"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    try:
        parse_credentials(data)
    except InvalidInputError as error:
        assert error.code == "registry-credentials-invalid"  # noqa: PT017
