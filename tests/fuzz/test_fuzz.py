"""The fuzzer finds what is planted, and a short run finds nothing else; ``make fuzz`` is the long one."""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz import engine
from tests.fuzz.__main__ import look, reproduce
from tests.fuzz.engine import Target, fuzz, run_once
from tests.fuzz.targets import TARGETS

each_target = pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])


@each_target
def test_seeds_are_accepted(target):
    for seed in target.seeds():
        target.run(seed)


@each_target
def test_mutated_seeds_end_in_a_value_or_a_declared_error(target):
    result = fuzz(target, seed=1, runs=150)
    assert not result.crashes, result.crashes[0].report


@each_target
@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=2048))
def test_any_bytes_end_in_a_value_or_a_declared_error(target, data):
    _place, crash = run_once(target, data)
    assert crash is None, crash.report


def parse(data: bytes) -> None:
    """Refuse what has no magic, and fall over one length."""
    if data[:4] != b"good":
        raise ValueError("no magic")
    if data[4:6] == b"\xff\xff":
        raise IndexError("planted")


PLANTED = Target("planted", lambda: [b"good\0\0data"], parse, (ValueError,))


def test_a_planted_crash_is_found_and_its_bytes_reproduce_it():
    result = fuzz(PLANTED, seed=3, runs=200_000, most=1)
    (crash,) = result.crashes
    assert "planted" in crash.report
    with pytest.raises(IndexError):
        parse(crash.data)


def test_the_same_seed_mutates_alike():
    assert fuzz(PLANTED, seed=4, runs=500) == fuzz(PLANTED, seed=4, runs=500)


def test_an_input_that_takes_too_long_is_a_crash(monkeypatch):
    monkeypatch.setattr(engine, "SLOW_S", 0.05)
    slow = Target("slow", lambda: [b""], lambda data: time.sleep(5), (Exception,))
    _place, crash = run_once(slow, b"")
    assert "TooSlowError" in crash.report


def test_a_crash_is_written_down_and_reproduced_from_there(tmp_path, capsys):
    arguments = Namespace(seed=3, seconds=20, crashes=tmp_path / "crashes")
    assert look(PLANTED, arguments, most=1) == 1
    (path,) = arguments.crashes.iterdir()
    assert reproduce([PLANTED], path) == 1
    assert capsys.readouterr().out.count("IndexError: planted") == 2


def test_the_program_ends_with_zero_where_nothing_is_found(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--crashes", tmp_path / "crashes"]
    done = subprocess.run(
        [*command, "launch", "--seconds", "0.2"], capture_output=True, text=True, check=True
    )
    assert "0 crashes" in done.stdout
    assert not (tmp_path / "crashes").exists()
    done = subprocess.run([*command, "absent"], capture_output=True, text=True, check=False)
    assert (done.returncode, "no such target: absent" in done.stderr) == (2, True)
