"""Sizes as Kubernetes writes them: what they mean, and that nothing else has a meaning."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.quantity import InvalidQuantityError, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("512Mi", 512 << 20),
        ("2Gi", 2 << 30),
        ("1Ki", 1024),
        ("1k", 1000),
        ("1.5Gi", 3 << 29),
        ("1.5", 2),
        ("0.0001Ki", 1),
        ("128e6", 128_000_000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("3Ti", 3 << 40),
        ("2M", 2_000_000),
    ],
)
def test_the_sizes_of_kubernetes(text, size):
    assert parse_bytes(text) == size


NO_SIZES = (
    ["", " 1", "1 ", "1 Gi", "-1", "+1", "1GB", "1gi", "1mi", "100m", "1.", ".5", "1,5", "0x10"],
    ["1e", "1e100", "1e-3", "inf", "\u0661", "1\n", "9" * 21, "1." + "0" * 10],
)


@pytest.mark.parametrize("text", [*NO_SIZES[0], *NO_SIZES[1]])
def test_anything_else_is_no_size(text):
    with pytest.raises(InvalidQuantityError):
        parse_bytes(text)


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_the_declared_error(text):
    with suppress(InvalidQuantityError):
        assert parse_bytes(text) >= 0


@given(st.integers(0, 1 << 60))
def test_a_plain_number_is_itself(size):
    assert parse_bytes(str(size)) == size
