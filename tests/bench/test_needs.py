"""A benchmark that cannot run says what is missing, and does not look as if it had run."""

from __future__ import annotations

import os

import pytest

from bench import __main__ as main
from bench import needs, rootfs


def test_a_missing_program_is_named_by_its_package():
    with pytest.raises(needs.UnavailableHereError, match=r"apt-get install some-package\)$"):
        needs.require_programs({"sh": "dash", "no-such-program": "some-package"})


def test_a_benchmark_without_its_programs_ends_with_69(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(rootfs, "require_root", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(main, "_HERE", tmp_path)
    monkeypatch.setattr(main, "_RESULTS", tmp_path / "results")
    assert main.main(["rootfs"]) == os.EX_UNAVAILABLE
    assert "gocryptfs" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
