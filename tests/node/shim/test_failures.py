from __future__ import annotations

import pytest

from enclave_cc.core.catalogue import REMEDIES
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.ttrpc import NOT_FOUND, PERMISSION_DENIED, UNKNOWN
from enclave_cc.node.shim import failures
from enclave_cc.node.shim.failures import Failure, Reason, refusal, relayed

REASONS = [value for value in vars(failures).values() if isinstance(value, Reason)]
INFO = {"code": "c", "stage": "mount", "request_id": "", "summary": "s", "remedy": "r"}


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.code)
def test_every_reason_of_the_shim_is_in_the_catalogue_and_names_a_stage(reason):
    assert reason.code in REMEDIES
    assert reason.stage in set(Stage)
    # The agent's own initdata errors have a detail to point to, the shim's have none.
    if reason.code != "initdata-invalid":
        assert reason.remedy == REMEDIES[reason.code]


def test_the_line_is_the_one_that_the_core_renders():
    error = InvalidInputError("boot-failed", "it broke", stage=Stage.LAUNCH)
    reason = Reason(UNKNOWN, error.code, str(error.stage), error.summary, error.remedy)
    assert refusal(reason, "REQ").message == error.host_line("REQ")


def test_a_peers_line_breaks_and_length_do_not_reach_the_event():
    message = refusal(Reason(UNKNOWN, "c", "mount", "a\nb" + "x" * 5000, "r"), "REQ").message
    assert "\n" not in message
    assert len(message) < 1000


def test_a_peers_reason_is_passed_on_with_our_request_id():
    failure = relayed(Failure(PERMISSION_DENIED, "ignored", INFO), "REQ", failures.BOOT_FAILED)
    assert failure.message == "enclave-cc: s [code=c stage=mount request=REQ]; r"
    assert failure.status == PERMISSION_DENIED


def test_a_peers_not_found_does_not_mean_that_the_task_is_missing():
    assert relayed(Failure(NOT_FOUND, "", INFO), "REQ", failures.BOOT_FAILED).status == UNKNOWN


def test_a_peer_without_a_reason_gets_the_one_at_hand():
    failure = relayed(Failure(NOT_FOUND, "surprise"), "REQ", failures.AGENT_UNAVAILABLE)
    assert "[code=agent-unavailable stage=launch request=REQ]" in failure.message
