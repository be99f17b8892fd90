"""A refusal counts only when the right check caught it, the host learnt no values, and the owner both."""

from __future__ import annotations

from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.demo.cri.host_view import HostView
from enclave_cc.demo.story.refusals import REFUSALS, Refusal, problems
from enclave_cc.demo.story.report import DemoReport, RefusalReport, StageReport

_REFUSAL = Refusal("a flipped byte", "layer-digest-mismatch", "image.layer.digest", lambda _: HostView(""))
_HOST = HostView("a layer was changed", "layer-digest-mismatch", "verify", "ID", "push it again")
_OWNER = (Finding("image.layer.digest", Outcome.FAILED, "sha256:aa", "sha256:bb"),)


def test_the_right_refusal_has_no_problems():
    assert problems(_REFUSAL, _HOST, _OWNER) == []


def test_a_refusal_by_another_check_is_a_problem():
    other = HostView("x", "image-not-found", "fetch", "ID", "y")
    assert problems(_REFUSAL, other, _OWNER) == ["expected layer-digest-mismatch, seen image-not-found"]


def test_a_value_in_the_hosts_line_is_a_problem():
    leaky = HostView("digest 0123456789abcdef", "layer-digest-mismatch", "verify", "ID", "y")
    assert problems(_REFUSAL, leaky, _OWNER) == ["the host's line holds a value"]


def test_an_owner_who_sees_nothing_is_a_problem():
    assert problems(_REFUSAL, _HOST, ()) == ["the owner sees nothing failed, not image.layer.digest"]


def test_a_finding_without_both_values_is_a_problem():
    half = (Finding("image.layer.digest", Outcome.FAILED, "sha256:aa", ""),)
    assert problems(_REFUSAL, _HOST, half) == [
        "the owner's finding image.layer.digest lacks one of its values"
    ]


def test_the_refusals_of_the_story_have_different_names_and_codes():
    assert (
        len({refusal.name for refusal in REFUSALS})
        == len({refusal.expected_code for refusal in REFUSALS})
        == 8
    )


def _report(*, stage_ok=True, problems=()):
    refusal = RefusalReport("r", "c", _HOST, _OWNER, 0.1, problems)
    return DemoReport((StageReport("s", 0.25, ok=stage_ok),), (refusal,))


def test_a_report_is_good_only_when_every_part_is():
    assert _report().ok
    assert not _report(stage_ok=False).ok
    assert not _report(problems=("p",)).ok
    assert not DemoReport((), ()).ok


def test_a_report_is_json_with_durations():
    document = _report().to_json()
    assert document["stages"] == [{"name": "s", "duration_s": 0.25, "ok": True, "notes": []}]
    assert document["refusals"][0]["owner"][0]["actual"] == "sha256:bb"
