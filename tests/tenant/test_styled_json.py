import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.tenant.styled_json import _STYLES, StyledJson

KEYS = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def parse(data):
    return StyledJson.parse(data, max_bytes=1 << 20, code="manifest-invalid", summary="malformed")


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from(_STYLES))
@settings(max_examples=60)
def test_a_document_keeps_the_style_it_was_written_in(value, style):
    written = style.write(value)
    read = parse(written)
    assert read.to_bytes() == written
    read.members["added\N{SNOWMAN}"] = {"a": 1}
    again = parse(read.to_bytes())
    del again.members["added\N{SNOWMAN}"]
    assert again.to_bytes() == written


@pytest.mark.parametrize(
    "text",
    [
        '{\n   "a": [\n      1\n   ],\n   "b": {}\n}',
        '{"a":"x \\u0026\\u0026 y"}\n',
        '{"a": [1, 2], "b": null}',
        '{\n\t"a": 1\n}',
    ],
)
def test_what_builders_write_is_known(text):
    assert parse(text.encode()).to_bytes() == text.encode()


def test_an_unknown_style_becomes_the_compact_one():
    assert parse(b'{ "a" :1}').to_bytes() == b'{"a":1}'


@given(st.binary(max_size=60))
@settings(max_examples=60)
def test_any_bytes_are_a_document_or_refused(data):
    with contextlib.suppress(InvalidInputError):
        read = parse(data)
        assert json.loads(read.to_bytes()) == read.members
