"""Quote version 3: real quotes survive the round trip, everything else is refused by name."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.sgx.quote import QuoteV3
from enclave_cc.formats.sgx.report import ReportBody
from enclave_cc.formats.sgx.structure import InvalidStructureError


def quote(**changes):
    fields = {
        "qe_svn": 1,
        "pce_svn": 2,
        "qe_id": b"Q" * 16,
        "body": ReportBody(),
        "signature": b"s" * 64,
        "attestation_key": b"k" * 64,
        "qe_report": ReportBody(),
        "qe_report_signature": b"r" * 64,
        "qe_auth_data": bytes(range(32)),
        "certification_type": 5,
        "certification_data": b"chain\0",
    }
    return QuoteV3(**fields | changes)


def test_real_quotes_survive_the_round_trip(vectors):
    files = sorted((vectors / "sgx" / "quotes").iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        packed = QuoteV3.parse(data).pack()
        assert data.startswith(packed)
        assert not any(data[len(packed) :])


def test_real_quotes_have_the_measurements_others_read_from_them(vectors):
    for case in json.loads((vectors / "sgx" / "README.json").read_text())["genuine"]:
        body = QuoteV3.parse((vectors / "sgx" / case["quote"]).read_bytes()).body
        assert body.mr_enclave.hex() == case["mr_enclave"]
        assert body.mr_signer.hex() == case["mr_signer"]
        assert (body.isv_prod_id, body.isv_svn) == (case["isv_prod_id"], case["isv_svn"])
        assert body.debug == case["debug"]


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (0, 4, "version"),
        (2, 3, "attestation key type"),
        (4, 0x81, "TEE type"),
        (12, 0, "vendor"),
        (44, 1, "reserved"),
        (48 + 20, 1, "reserved"),
        (564 + 20, 1, "reserved"),
    ],
)
def test_each_fixed_part_is_checked(offset, value, what):
    data = bytearray(quote().pack())
    data[offset] = value
    with pytest.raises(InvalidStructureError, match=what):
        QuoteV3.parse(bytes(data))


def test_every_truncation_is_refused():
    data = quote().pack()
    for length in range(len(data)):
        with pytest.raises(InvalidStructureError):
            QuoteV3.parse(data[:length])


def test_zero_padding_after_the_end_is_a_buffers_and_allowed():
    assert QuoteV3.parse(quote().pack() + bytes(100)) == quote()


def test_other_bytes_after_the_end_are_refused():
    with pytest.raises(InvalidStructureError, match="padding"):
        QuoteV3.parse(quote().pack() + b"\0\x01")


def test_bytes_between_the_parts_and_the_declared_length_are_refused():
    data = quote().pack() + b"\0"
    longer = len(data) - 436
    with pytest.raises(InvalidStructureError, match="more than its parts"):
        QuoteV3.parse(data[:432] + longer.to_bytes(4, "little") + data[436:])


@pytest.mark.parametrize("kind", [0, 6])
def test_unknown_certification_types_are_refused(kind):
    with pytest.raises(InvalidStructureError, match="certification"):
        quote(certification_type=kind)


def test_a_quote_of_more_than_64_kib_is_refused():
    with pytest.raises(InvalidStructureError):
        QuoteV3.parse(quote().pack() + bytes(65536))


@given(st.binary(max_size=2000))
def test_any_bytes_parse_or_raise_the_declared_error(data):
    with contextlib.suppress(InvalidStructureError):
        QuoteV3.parse(data)


@given(st.integers(0, len(quote().pack()) - 1), st.integers(0, 255))
def test_any_changed_byte_parses_to_the_same_bytes_or_raises_the_declared_error(offset, value):
    data = bytearray(quote().pack())
    data[offset] = value
    with contextlib.suppress(InvalidStructureError):
        assert bytes(data).startswith(QuoteV3.parse(bytes(data)).pack())
