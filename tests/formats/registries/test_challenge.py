"""Challenges and token answers, however registries write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.registries.challenge import choose, parse_challenges
from enclave_cc.formats.registries.token import TokenAnswer, scope_union


@pytest.mark.parametrize(
    "headers",
    [
        ['Bearer realm="https://a.example/t",service="s"'],
        ['BEARER Realm="https://a.example/t", Service="s"'],
        ["bearer realm=https://a.example/t , service=s"],
        ['Basic realm="x", Bearer realm="https://a.example/t",service="s"'],
        ['Basic realm="x"', 'Bearer realm="https://a.example/t",service="s"'],
        ['Negotiate, Bearer realm="https://a.example/t",service="s", Basic realm="y, z=1"'],
        ['Negotiate YWJj=, Bearer service="s",realm="https://a.example/t"'],
        [r'Bearer realm="https://\a.example/t",service="s"'],
    ],
)
def test_a_bearer_challenge_is_found_among_others(headers):
    bearer = choose(parse_challenges(headers))["bearer"]
    assert (bearer.get("realm"), bearer.get("service")) == ("https://a.example/t", "s")


def test_what_is_quoted_is_not_split():
    bearer = parse_challenges(['Bearer realm="r",scope="repository:a:pull,push repository:b:pull"'])[0]
    assert bearer.get("scope") == "repository:a:pull,push repository:b:pull"
    assert bearer.get("error") == ""


@given(st.lists(st.text(max_size=100), max_size=3))
def test_no_text_raises(headers):
    parse_challenges(headers)


def test_a_long_header_takes_no_long_time():
    parse_challenges(['Bearer realm="' + "\\" * 8190, "a=" * 4000, "a " * 4000])


def test_reading_never_asks_for_more_than_reading():
    offered = "repository:team/app:pull,push,delete repository:other:* registry:catalog:*"
    assert scope_union("team/app", push=False, offered=offered) == ("repository:team/app:pull",)


def test_scopes_are_united():
    assert scope_union("a", push=True, offered="repository:b:pull", also_pull="c") == (
        "repository:a:pull,push",
        "repository:c:pull",
        "repository:b:pull",
    )


def test_scopes_are_bounded():
    offered = " ".join(f"repository:x{number}:pull" for number in range(1000))
    assert len(scope_union("a", push=False, offered=offered)) <= 17


@pytest.mark.parametrize(
    ("answer", "lifetime_s"),
    [
        (b'{"token":"t"}', 60),
        (b'{"access_token":"t","expires_in":300}', 300),
        (b'{"token":"t","expires_in":-1}', 60),
        (b'{"token":"t","expires_in":99999999}', 86400),
    ],
)
def test_a_token_says_how_long_it_lasts(answer, lifetime_s):
    assert TokenAnswer.parse(answer).lifetime_s == lifetime_s


def test_no_token_is_in_a_repr():
    assert "hidden" not in repr(TokenAnswer("hidden", 1, "hidden"))


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_value_error(data):
    with contextlib.suppress(ValueError):
        TokenAnswer.parse(data)
