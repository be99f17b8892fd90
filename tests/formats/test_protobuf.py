from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.protobuf import (
    BOOL,
    BYTES,
    INT,
    STRING,
    UINT,
    ProtobufError,
    Schema,
    decode,
    encode,
    mapping,
    repeated,
)

INNER = Schema("Inner", {1: ("text", STRING), 2: ("flag", BOOL)})
OUTER = Schema(
    "Outer",
    {
        1: ("number", INT),
        2: ("count", UINT),
        3: ("raw", BYTES),
        4: ("inner", INNER),
        5: ("inners", repeated(INNER)),
        6: ("labels", mapping()),
        7: ("numbers", repeated(UINT)),
        8: ("names", repeated(STRING)),
    },
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_INNER = st.fixed_dictionaries({"text": _TEXT, "flag": st.booleans()})


@given(
    st.fixed_dictionaries(
        {
            "number": st.integers(-(2**63), 2**63 - 1),
            "count": st.integers(0, 2**64 - 1),
            "raw": st.binary(max_size=50),
            "inner": st.none() | _INNER,
            "inners": st.lists(_INNER, max_size=3),
            "labels": st.dictionaries(_TEXT, _TEXT, max_size=3),
            "numbers": st.lists(st.integers(0, 2**64 - 1), max_size=3),
            "names": st.lists(_TEXT, max_size=3),
        }
    )
)
def test_messages_round_trip(values):
    assert decode(OUTER, encode(OUTER, values)) == values


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_the_declared_error(data):
    with contextlib.suppress(ProtobufError):
        decode(OUTER, data)


def test_known_bytes_from_the_documentation():
    # protobuf's encoding guide: field 1 = 150, field 2 = "testing".
    assert encode(Schema("A", {1: ("a", INT)}), {"a": 150}) == bytes.fromhex("089601")
    assert encode(Schema("B", {2: ("b", STRING)}), {"b": "testing"}) == bytes.fromhex("120774657374696e67")


def test_packed_and_unpacked_numbers_read_alike():
    assert decode(OUTER, bytes.fromhex("3a03010203"))["numbers"] == [1, 2, 3]
    assert decode(OUTER, bytes.fromhex("380138023803"))["numbers"] == [1, 2, 3]


def test_unknown_fields_are_skipped():
    assert decode(INNER, bytes.fromhex("7a0161") + encode(INNER, {"text": "x"}))["text"] == "x"


@pytest.mark.parametrize("data", ["0a05", "0aff", "08", "0b", "0a01ff", "1000" + "80" * 11, "0801"])
def test_malformed_messages_are_refused(data):
    with pytest.raises(ProtobufError):
        decode(INNER, bytes.fromhex(data))


def test_nesting_is_bounded():
    loop = Schema("Loop", {})
    loop.fields[1] = ("loop", loop)
    data = b""
    for _ in range(30):
        data = encode(Schema("W", {1: ("w", BYTES)}), {"w": data}) if data else b"\x0a\x00"
    with pytest.raises(ProtobufError):
        decode(loop, data)
