"""What a host must not hold is found wherever it lies."""

from __future__ import annotations

import pytest

from enclave_cc.core.findings import Outcome
from enclave_cc.demo.scene.paths import ScenePaths
from enclave_cc.demo.story import checks
from enclave_cc.demo.story.checks import contains, search_host

_BLOBS = "c/root/io.containerd.content.v1.content/blobs/sha256"


@pytest.fixture
def host(tmp_path):
    (tmp_path / _BLOBS).mkdir(parents=True)
    (tmp_path / "n/pods").mkdir(parents=True)
    (tmp_path / _BLOBS / "aaaa").write_bytes(b"a manifest")
    return tmp_path


def _outcomes(host):
    found = search_host(ScenePaths(host), layers={"sha256:bbbb"}, needles={b"secret words"})
    return [finding.outcome for finding in found.findings]


def test_a_clean_host_passes(host):
    (host / "n/pods/sealed").write_bytes(b"ciphertext")
    assert _outcomes(host) == [Outcome.PASSED, Outcome.PASSED]


def test_a_layer_in_the_content_store_is_found(host):
    (host / _BLOBS / "bbbb").write_bytes(b"layer")
    assert _outcomes(host) == [Outcome.FAILED, Outcome.PASSED]


def test_plaintext_in_the_nodes_state_is_found(host):
    (host / "n/pods/file").write_bytes(b"these are secret words here")
    assert _outcomes(host) == [Outcome.PASSED, Outcome.FAILED]


def test_plaintext_that_crosses_two_reads_is_found(host, monkeypatch):
    monkeypatch.setattr(checks, "_CHUNK_BYTES", 8)
    (host / "file").write_bytes(b"1234secret words")
    assert contains(host / "file", {b"secret words"})
    assert not contains(host / "file", {b"secret wordz"})


def test_a_file_that_vanished_holds_nothing(host):
    assert not contains(host / "gone", {b"x"})
