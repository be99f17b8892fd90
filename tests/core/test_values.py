from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core import strict_json
from enclave_cc.core.catalogue import REMEDIES
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.findings import Finding, Outcome, equal, member
from enclave_cc.core.request_id import fresh_request_id, parse_request_id
from enclave_cc.core.secret import Secret
from enclave_cc.core.verdict import Verdict


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_digest_text_round_trips(data, algorithm):
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    digest.verify(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "F" * 64,
        "md5:" + "0" * 32,
        "sha256:" + "0" * 64 + "\n",
    ],
)
def test_a_malformed_digest_is_refused(text):
    with pytest.raises(InvalidInputError) as caught:
        Digest.parse(text)
    assert caught.value.code == "digest-invalid"


def test_a_digest_mismatch_keeps_both_values_for_the_owner_only():
    with pytest.raises(RefusedError) as caught:
        Digest.of(b"a").verify(b"b")
    finding = caught.value.findings[0]
    assert finding.expected == str(Digest.of(b"a"))
    assert finding.actual == str(Digest.of(b"b"))
    assert "sha256" not in str(caught.value)


def test_no_reference_value_means_no():
    assert member("x", allowed=(), actual="a").outcome is Outcome.FAILED


def test_an_empty_verdict_is_not_a_pass():
    with pytest.raises(RefusedError):
        Verdict(()).require("code", "refused", stage=Stage.VERIFY)


def test_a_failed_rule_refuses_and_carries_every_finding():
    verdict = Verdict((equal("one", expected="1", actual="1"), equal("two", expected="2", actual="3")))
    with pytest.raises(RefusedError) as caught:
        verdict.require("code", "refused", stage=Stage.VERIFY)
    assert [finding.rule for finding in caught.value.findings] == ["one", "two"]
    assert "3" not in caught.value.host_line("R")


def test_findings_round_trip_and_are_cut():
    finding = Finding("rule", Outcome.FAILED, "a" * 5000, "b", "c")
    assert Finding.from_json(finding.to_json()).expected == "a" * 2048
    with pytest.raises(FieldError):
        Finding.from_json({"rule": "r", "outcome": "maybe"})


def test_the_host_line_names_code_stage_request_and_remedy():
    error = RefusedError("deadline-exceeded", "a peer is late", stage=Stage.FETCH, detail="secret value")
    line = error.host_line("ID")
    assert line.startswith("enclave-cc: a peer is late [code=deadline-exceeded stage=fetch request=ID]; ")
    assert line.endswith(REMEDIES["deadline-exceeded"])
    assert "secret" not in line


def test_request_ids_are_fresh_and_parse():
    ids = {fresh_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(parse_request_id(text) == text for text in ids)


@pytest.mark.parametrize("text", ["", "a" * 26, "U" * 26, "0" * 25, "0" * 26 + "\n"])
def test_a_malformed_request_id_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_request_id(text)


def test_a_secret_does_not_leak_and_can_be_wiped():
    secret = Secret(b"hunter2")
    view = secret.reveal()
    assert "hunter2" not in f"{secret!r}{secret}{[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    secret.wipe()
    assert bytes(view) == bytes(7)
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', "NaN", "[" * 40 + "]" * 40, "1" * 30, '"\\ud800', "{", b"\xff", '{"a":1}' + " " * 100],
)
def test_doubtful_json_is_refused(text):
    with pytest.raises(strict_json.InvalidJsonError):
        strict_json.loads(text, max_bytes=100)


def test_brackets_inside_strings_do_not_nest():
    assert strict_json.loads('["[[[[\\"[[[["]', max_bytes=100, max_depth=1) == ['[[[["[[[[']


@given(st.binary(max_size=300))
def test_any_bytes_give_json_or_the_declared_error(data):
    with contextlib.suppress(strict_json.InvalidJsonError):
        strict_json.loads(data, max_bytes=200)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(_JSON)
def test_canonical_json_round_trips(value):
    assert strict_json.loads(strict_json.canonical(value), max_bytes=1 << 20) == value


def test_canonical_json_sorts_by_utf16_units_and_refuses_floats():
    assert strict_json.canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()
    with pytest.raises(strict_json.InvalidJsonError):
        strict_json.canonical({"a": 1.5})


def test_field_complaints_name_the_member():
    fields = Fields({"a": 1, "b": {"c": "x"}}, "doc")
    assert fields.object("b").text("c") == "x"
    with pytest.raises(FieldError, match=r"doc\.a: is not a text"):
        fields.text("a")
    with pytest.raises(FieldError, match=r"doc\.b\.d: is missing"):
        fields.object("b").text("d")
    with pytest.raises(FieldError, match=r"doc\.b: is unknown"):
        fields.only("a")


@pytest.mark.parametrize("text", [r'"\ud800"', r'["\uDFFF"]', r'{"a":{"\udc00":1}}', r'"\ude00\ud83d"'])
def test_half_a_character_is_not_json_that_we_accept(text):
    with pytest.raises(strict_json.InvalidJsonError):
        strict_json.loads(text, max_bytes=100)


def test_escaped_pairs_are_whole_characters():
    assert strict_json.loads(r'["\ud83d\ude00", "\\ud800"]', max_bytes=100) == ["\U0001f600", "\\ud800"]
