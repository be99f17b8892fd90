"""SGX evidence in the form that brokers of Confidential Containers read."""

from __future__ import annotations

import base64

import pytest
from tests.simulators.sgx_machine import InMemoryProcessor, Machine

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.enclave.attester.sgx import SgxAttester
from enclave_cc.formats.sgx.quote import QuoteV3


@pytest.fixture
def attester():
    return SgxAttester(InMemoryProcessor(Machine()))


def test_evidence_is_a_base64_quote_over_the_padded_report_data(attester):
    evidence = attester.evidence(b"h" * 48)
    assert list(evidence) == ["quote"]
    body = QuoteV3.parse(base64.b64decode(evidence["quote"], validate=True)).body
    assert body.report_data == b"h" * 48 + bytes(16)


def test_simulated_evidence_never_calls_itself_sgx(attester):
    assert attester.tee == "sgx-sim"


def test_report_data_that_does_not_fit_is_refused(attester):
    with pytest.raises(InvalidInputError):
        attester.evidence(bytes(65))
