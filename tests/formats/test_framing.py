"""Length-prefixed lists: equal bytes mean equal lists."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.framing import FramingError, lp, unlp

parts = st.lists(st.binary(max_size=20), max_size=10)


@given(parts)
def test_lists_survive_the_round_trip(values):
    assert list(unlp(lp(*values))) == values


@given(parts, parts)
def test_different_lists_have_different_bytes(first, second):
    assert (lp(*first) == lp(*second)) == (first == second)


@given(st.binary(max_size=100))
def test_any_bytes_parse_or_raise_the_declared_error(data):
    with contextlib.suppress(FramingError):
        assert lp(*unlp(data)) == data


def test_a_part_longer_than_the_data_is_refused():
    with pytest.raises(FramingError, match="longer"):
        unlp(b"\0\0\0\x05abcd")


def test_a_cut_length_is_refused():
    with pytest.raises(FramingError):
        unlp(lp(b"a") + b"\0")


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_parts_is_refused(count):
    with pytest.raises(FramingError):
        unlp(lp(b"a", b"b"), count=count)


def test_more_parts_than_anybody_needs_are_refused():
    with pytest.raises(FramingError, match="too many"):
        unlp(lp(*[b""] * 65))
