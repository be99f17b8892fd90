"""The small DER reader below certificates' extensions and envelopes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats import der
from enclave_cc.formats.der import InvalidDerError


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",  # indefinite length
        b"\x30\x81\x01\x00",  # length not minimal
        b"\x30\x82\x00\x80" + bytes(128),  # length not minimal
        b"\x30\x83\x00\x00\x00",  # length of length out of range
        b"\x30\x02\x00",  # past the end
        b"\x30\x00\x00",  # bytes after the end
    ],
)
def test_lengths_that_der_forbids_are_refused(data):
    with pytest.raises(InvalidDerError):
        der.read(data)


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x00\x01", b"\x01" * 6])
def test_integers_that_der_forbids_are_refused(content):
    with pytest.raises(InvalidDerError):
        der.unsigned(content)


def test_booleans_other_than_00_and_ff_are_refused():
    with pytest.raises(InvalidDerError):
        der.boolean(b"\x01")


@pytest.mark.parametrize("content", [b"", b"\x80\x01", b"\x2a\x80", b"\x2a\x80\x01", b"\x2a" * 33])
def test_object_identifiers_that_der_forbids_are_refused(content):
    with pytest.raises(InvalidDerError):
        der.dotted(content)


@given(st.integers(0, 2**32 - 1))
def test_integers_survive_the_round_trip(value):
    assert der.unsigned(der.read(der.write_unsigned(value))[1]) == value


@given(
    st.tuples(st.integers(0, 2), st.integers(0, 39)), st.lists(st.integers(0, 2**28), min_size=1, max_size=5)
)
def test_object_identifiers_survive_the_round_trip(root, arcs):
    text = ".".join(map(str, (*root, *arcs)))
    assert der.dotted(der.read(der.write_oid(text))[1]) == text
