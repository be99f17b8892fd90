"""Bundles are built once per set of inputs; the modified one differs in one file."""

from __future__ import annotations

import os

import pytest

from enclave_cc.demo.scene import bundle_cache
from enclave_cc.demo.scene.bundle_cache import prepare_bundles


@pytest.fixture
def builds(monkeypatch):
    """Replace the slow builder; returns what was built."""
    built = []

    def build(kind, output, *, boot_bundle=None):
        built.append(kind)
        launcher = output / "rootfs/usr/lib/enclave-cc"
        launcher.mkdir(parents=True)
        (launcher / "agent.py").write_bytes(b"genuine\n")
        (launcher / "other").write_bytes(b"same")

    monkeypatch.setattr(bundle_cache, "build_bundle", build)
    monkeypatch.setattr(bundle_cache, "inputs_digest", lambda: "digest")
    return built


def test_equal_inputs_are_built_once(tmp_path, builds):
    assert prepare_bundles(tmp_path) == prepare_bundles(tmp_path)
    assert builds == ["boot", "agent"]


def test_the_modified_agent_differs_in_one_file_and_the_genuine_one_is_untouched(tmp_path, builds):
    bundles = prepare_bundles(tmp_path)
    name = "rootfs/usr/lib/enclave-cc"
    assert (bundles.agent / name / "agent.py").read_bytes() == b"genuine\n"
    assert (bundles.modified_agent / name / "agent.py").read_bytes().startswith(b"genuine\n# ")
    assert (bundles.modified_agent / name / "other").read_bytes() == b"same"


def test_a_build_that_was_interrupted_is_done_again(tmp_path, builds):
    bundles = prepare_bundles(tmp_path)
    bundle_cache.remove_bundle(bundles.modified_agent)
    for bundle in (bundles.boot, bundles.agent):
        bundle_cache.remove_bundle(bundle)
    assert prepare_bundles(tmp_path).modified_agent.is_dir()


def test_old_entries_go_and_recent_ones_stay(tmp_path, builds, monkeypatch):
    for age in range(12):
        entry = tmp_path / f"entry-{age}"
        entry.mkdir()
        os.utime(entry, (age, 2_000_000_000 if age == 0 else age))
    prepare_bundles(tmp_path)
    left = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
    assert left == {"digest", "entry-0", "entry-11", "entry-10", "entry-9"}


def test_the_inputs_of_this_installation_have_a_digest():
    assert bundle_cache.inputs_digest() == bundle_cache.inputs_digest()
