"""A machine that lacks something is told what, and how to get it."""

from __future__ import annotations

import struct

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.core.findings import Outcome
from enclave_cc.demo.scene.requirements import (
    Machine,
    is_static,
    missing_requirements,
    require_all,
    requirements,
)

_BARE = {"system": "linux", "architecture": "x86_64", "uid": 1000, "which": lambda _: None}


def _elf(*kinds):
    header = struct.pack("<16xHHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0)
    table = b"".join(struct.pack("<I52x", kind) for kind in kinds)
    return b"\x7fELF\x02\x01" + header[6:] + table


def test_an_empty_machine_lacks_everything_and_each_finding_says_how_to_get_it(tmp_path):
    missing = missing_requirements(Machine(root=tmp_path, **_BARE))
    assert {finding.rule for finding in missing} == {
        "root",
        "/dev/fuse",
        "/dev/loop-control",
        "ext4 file system",
        "mke2fs",
        "overlay file system",
        "cgroups",
        "containerd",
        "runc",
        "docker-registry",
        "busybox, statically linked",
        "apt-get",
    }
    assert all(finding.remedy for finding in missing)


def test_a_program_that_is_missing_names_its_package(tmp_path):
    findings = {finding.rule: finding for finding in requirements(Machine(root=tmp_path, **_BARE))}
    assert findings["docker-registry"].remedy == "apt-get install docker-registry"


def test_a_kernel_without_erofs_is_told_of_and_accepted(tmp_path):
    findings = {finding.rule: finding for finding in requirements(Machine(root=tmp_path, **_BARE))}
    assert findings["erofs file system"].outcome is Outcome.SKIPPED


def test_another_architecture_is_named(tmp_path):
    machine = Machine(root=tmp_path, **{**_BARE, "architecture": "aarch64"})
    assert "linux aarch64" in {finding.actual for finding in missing_requirements(machine)}


def test_what_is_there_is_not_missed(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_bytes(_elf(1, 1))
    (tmp_path / "usr/bin/busybox").chmod(0o755)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\toverlay\n\terofs\n\text4\n")
    (tmp_path / "sys/fs/cgroup/devices").mkdir(parents=True)
    rules = {finding.rule for finding in missing_requirements(Machine(root=tmp_path, **{**_BARE, "uid": 0}))}
    assert rules.isdisjoint({"root", "overlay file system", "ext4 file system", "cgroups"})
    assert "busybox, statically linked" not in rules


def test_a_dynamic_busybox_is_recognised(tmp_path):
    (tmp_path / "static").write_bytes(_elf(1, 2))
    (tmp_path / "dynamic").write_bytes(_elf(1, 3))
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert [is_static(tmp_path / name) for name in ("static", "dynamic", "script")] == [True, False, False]


def test_the_refusal_names_all_that_is_missing(tmp_path):
    with pytest.raises(UnavailableError, match="apt-get install runc") as caught:
        require_all(Machine(root=tmp_path, **_BARE))
    assert caught.value.code == "requirement-missing"
