import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats.ocicrypt.keyprovider import (
    MAX_DOCUMENT_BYTES,
    UnwrapRequest,
    WrapRequest,
    encode_unwrapped,
    encode_wrapped,
    parse_request,
    parse_unwrapped,
    parse_wrapped,
)

PARAMETERS = {"attestation-agent": (b"keyid=kbs:///a/b/c",)}
# As ocicrypt's Go code writes it.
GO_WRAP = (
    b'{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"attestation-agent":["a2V5aWQ9a2JzOi8vL2EvYi9j"]},'
    b'"DecryptConfig":{"Parameters":{}}},"optsdata":"e30="},"keyunwrapparams":{"dc":null,"annotation":null}}'
)


def test_requests_of_go_programs_are_read():
    assert parse_request(GO_WRAP) == WrapRequest(PARAMETERS, b"{}")


def test_requests_are_written_as_go_programs_write_them():
    assert WrapRequest(PARAMETERS, b"{}").encode() == GO_WRAP


@given(st.binary(min_size=1, max_size=100), st.lists(st.binary(max_size=9), max_size=3))
def test_requests_survive_the_round_trip(data, values):
    for request in (WrapRequest({"p": tuple(values)}, data), UnwrapRequest({"p": tuple(values)}, data)):
        assert parse_request(request.encode()) == request


def test_absent_parameters_are_none():
    for config in (None, {}, {"Parameters": None}, {"Parameters": {}}):
        document = {"op": "keyunwrap", "keyunwrapparams": {"dc": config, "annotation": "AA=="}}
        assert parse_request(json.dumps(document).encode()) == UnwrapRequest({}, b"\0")


@given(st.binary(min_size=1, max_size=100))
def test_answers_are_arrays_of_integers_and_read_in_both_forms(data):
    assert json.loads(encode_wrapped(data)) == {"keywrapresults": {"annotation": list(data)}}
    assert parse_wrapped(encode_wrapped(data)) == data
    assert parse_unwrapped(encode_unwrapped(data)) == data
    text = base64.b64encode(data).decode()
    assert parse_wrapped(json.dumps({"keywrapresults": {"annotation": text}}).encode()) == data
    assert parse_unwrapped(json.dumps({"keyunwrapresults": {"optsdata": text}}).encode()) == data


@pytest.mark.parametrize("value", [None, "", [], "?", [256], [-1], [True], [1.5], ["1"], {"0": 1}, 7])
def test_what_is_not_bytes_is_refused(value):
    with pytest.raises(ValueError, match="annotation"):
        parse_wrapped(json.dumps({"keywrapresults": {"annotation": value}}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"op": "keysteal"},
        {"op": None},
        {"keywrapparams": None},
        {"keywrapparams": {"optsdata": "e30="}, "op": 1},
    ],
)
def test_one_wrong_member_makes_a_request_malformed(change):
    with pytest.raises(ValueError, match="request"):
        parse_request(json.dumps({**json.loads(GO_WRAP), **change}).encode())


def test_a_document_longer_than_any_is_not_read():
    with pytest.raises(ValueError, match="longer"):
        parse_request(GO_WRAP + b" " * MAX_DOCUMENT_BYTES)


@settings(max_examples=100)
@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["op", "keywrapparams", "keyunwrapparams", "ec", "dc", "Parameters", "optsdata"]
                ),
                inner | st.just("keywrap") | st.just("keyunwrap"),
            )
        ),
        max_leaves=9,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_refused_with_the_declared_error(data):
    for parse in (parse_request, parse_wrapped, parse_unwrapped):
        with pytest.raises(ValueError):  # noqa: PT011  # any complaint will do
            parse(data)
