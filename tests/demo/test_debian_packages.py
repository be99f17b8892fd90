"""Only libraries are followed, and only what apt announced is taken for a package."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.demo.images import debian_packages
from enclave_cc.demo.images.debian_packages import closure, download

_SHA_OF_TEXT = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"


def test_the_closure_follows_libraries_only_and_ends_in_cycles(tmp_path):
    graph = {"server": ("liba", "adduser"), "liba": ("libb",), "libb": ("liba", "perl")}

    def depends(packages):
        return tuple(name for package in packages for name in graph[package])

    assert closure(("server",), tmp_path, depends=depends) == ("liba", "libb", "server")


def test_dependencies_are_read_with_the_first_of_alternatives(tmp_path, monkeypatch):
    record = "Package: a\nPre-Depends: libc6 (>= 2.34)\nDepends: libx | liby, libz:any\nSuggests: libno\n"
    monkeypatch.setattr(debian_packages, "run", lambda *_, **__: record)
    assert closure(("a",), tmp_path) == ("a", "libc6", "libx", "libz")


def _announce(monkeypatch, sha256):
    line = f"'http://mirror.example/a_1_amd64.deb' a_1_amd64.deb 4 SHA256:{sha256}\n"
    calls = []

    def run(command, **_):
        calls.append(command)
        return line if "--print-uris" in command else ""

    monkeypatch.setattr(debian_packages, "run", run)
    return calls


def test_a_cached_package_with_the_right_digest_is_not_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "a_1_amd64.deb").write_bytes(b"text")
    calls = _announce(monkeypatch, _SHA_OF_TEXT)
    assert download(("a",), tmp_path) == (tmp_path / "a_1_amd64.deb",)
    assert len(calls) == 1


def test_a_package_with_another_digest_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a_1_amd64.deb").write_bytes(b"tampered"[:4])
    _announce(monkeypatch, _SHA_OF_TEXT)
    with pytest.raises(UnavailableError) as caught:
        download(("a",), tmp_path)
    assert caught.value.code == "package-missing"


def test_a_policy_of_the_machine_is_left_alone(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(debian_packages, "_POLICY_FILE", policy)
    monkeypatch.setattr(debian_packages, "run", lambda *_, **__: "")
    debian_packages.install_debian_packages(("a",))
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_daemons_are_forbidden_to_start_during_the_installation_only(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    seen = []
    monkeypatch.setattr(debian_packages, "_POLICY_FILE", policy)
    monkeypatch.setattr(debian_packages, "run", lambda *_, **__: seen.append(policy.read_text()) or "")
    debian_packages.install_debian_packages(("a",))
    assert all("exit 101" in text for text in seen)
    assert not policy.exists()


def test_a_policy_left_by_a_killed_run_is_removed(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    policy.write_text(debian_packages._POLICY_TEXT)
    monkeypatch.setattr(debian_packages, "_POLICY_FILE", policy)
    monkeypatch.setattr(debian_packages, "run", lambda *_, **__: "")
    debian_packages.install_debian_packages(("a",))
    assert not policy.exists()
