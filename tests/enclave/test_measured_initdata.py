"""Only the measured text counts."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.enclave.measured_initdata import read_initdata
from enclave_cc.formats.initdata import InitData, initdata_digest

TEXT = b'version = "0.1.0"\nalgorithm = "sha256"\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "initdata.toml"
    path.write_bytes(TEXT)
    return path


def test_the_measured_text_is_read(path):
    assert read_initdata(path, initdata_digest(TEXT)).text == TEXT


def test_another_text_than_the_measured_one_is_refused(path):
    path.write_bytes(TEXT + b"\n")
    with pytest.raises(RefusedError) as caught:
        read_initdata(path, initdata_digest(TEXT))
    assert caught.value.code == "initdata-mismatch"


@pytest.mark.parametrize("measured", [b"", b"x" * 32])
def test_a_text_where_nothing_or_something_else_was_measured_is_refused(path, measured):
    with pytest.raises(RefusedError):
        read_initdata(path, measured)


def test_no_text_fits_only_no_measurement(tmp_path):
    assert read_initdata(None, b"") == InitData.empty()
    assert read_initdata(tmp_path / "none", b"") == InitData.empty()
    with pytest.raises(RefusedError):
        read_initdata(None, initdata_digest(TEXT))


def test_a_text_that_cannot_be_read_is_invalid(tmp_path):
    with pytest.raises(InvalidInputError):
        read_initdata(tmp_path, b"")
