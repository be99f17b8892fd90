"""The story's order: a stage that fails ends it and is written down, and everything is taken down anyway."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.demo.scene import requirements
from enclave_cc.demo.scene.sweep import Leftovers
from enclave_cc.demo.story import story
from enclave_cc.demo.story.acts import nothing_left, require

_NOTHING = Leftovers((), (), (), ())


class _Reporter:
    def __init__(self):
        self.ended, self.look_around = [], []

    def stage_started(self, name):
        pass

    def stage_ended(self, stage):
        self.ended.append((stage.name, stage.ok))

    def refusal_ended(self, refusal):
        pass

    def kept(self, look_around):
        self.look_around.append(look_around)


class _Scene:
    """Prepares, then fails to start; remembers that it was stopped."""

    stopped = False
    paths = type("Paths", (), {"root": "/scene"})()

    def __init__(self, _scenes):
        pass

    def prepare(self):
        pass

    def start_trusted(self):
        raise UnavailableError("daemon-not-ready", "broker ended", stage=Stage.LAUNCH, detail="its log")

    def stop(self):
        type(self).stopped = True


@pytest.fixture
def reporter(monkeypatch):
    monkeypatch.setattr(story, "require_all", lambda: None)
    monkeypatch.setattr(story, "Scene", _Scene)
    monkeypatch.setattr(story, "leftovers", lambda _: _NOTHING)
    monkeypatch.setattr(story, "look_around", lambda _: ("look",))
    monkeypatch.setattr(_Scene, "stopped", False)
    return _Reporter()


def test_a_failed_stage_ends_the_story_and_is_reported_with_its_words(reporter):
    report = story.run_demo(reporter)
    assert [ok for _, ok in reporter.ended] == [True, False, True]
    assert "daemon-not-ready" in report.stages[1].notes[0]
    assert "its log" in report.stages[1].notes[0]
    assert not report.ok


def test_everything_is_taken_down_after_a_failure(reporter):
    story.run_demo(reporter)
    assert _Scene.stopped


def test_what_failed_can_be_looked_at_when_it_is_kept(reporter):
    story.run_demo(reporter, keep=True)
    assert reporter.look_around == [("look",)]


def test_leftovers_at_the_end_are_a_failure(reporter, monkeypatch):
    monkeypatch.setattr(story, "leftovers", lambda _: Leftovers(("1 stray",), (), (), ()))
    report = story.run_demo(reporter)
    assert not report.stages[-1].ok
    assert "1 stray" in report.stages[-1].notes[0]


def test_an_unfit_machine_is_told_so_before_anything_starts(reporter, monkeypatch, tmp_path):
    machine = requirements.Machine(root=tmp_path, uid=1000, which=lambda _: None)
    monkeypatch.setattr(story, "require_all", lambda: requirements.require_all(machine))
    with pytest.raises(UnavailableError, match="root: run it with sudo"):
        story.run_demo(reporter)
    assert reporter.ended == []


def test_a_failed_comparison_names_both_values():
    with pytest.raises(RefusedError, match="'a', seen 'b'"):
        require(Finding("rule", Outcome.FAILED, "a", "b"), Finding("other", Outcome.PASSED, "c", "c"))


def test_nothing_left_is_nothing():
    assert nothing_left(_NOTHING).outcome is Outcome.PASSED
    assert nothing_left(Leftovers((), ("/mount",), (), ())).outcome is Outcome.FAILED
