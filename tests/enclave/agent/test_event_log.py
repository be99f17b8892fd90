"""What libraries and accidents say on the stream that the host reads: that and where, never with what."""

from __future__ import annotations

import io
import json
import logging

import pytest

from enclave_cc.enclave.agent.event_log import EventLog, FaultHandler


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def logger(stream):
    handler = FaultHandler(EventLog(stream, clock=lambda: 1.0))
    logger = logging.getLogger("enclave_cc.somewhere")
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def test_a_fault_is_logged_without_its_text(logger, stream):
    try:
        int("a value of the image")
    except ValueError:
        logger.exception("call-failed for %s", "another value")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["error"]) == ("fault", "ValueError")
    assert event["at"].startswith("enclave_cc.somewhere:")
    assert "value" not in stream.getvalue().replace("ValueError", "")


def test_what_is_no_fault_is_not_logged(logger, stream):
    logger.info("a value")
    assert stream.getvalue() == ""
