"""Measuring bundles: everything that could change behaviour counts, nothing else is let through."""

from __future__ import annotations

import json
import os
import socket

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.platform.measurement import MeasurementCache, measure_bundle

AGENT = {"kind": "agent", "product_id": 1, "args": ["/usr/bin/python3"], "env": [], "cwd": "/"}


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle"
    (path / "rootfs/usr/bin").mkdir(parents=True)
    (path / "rootfs/usr/bin/python3").write_bytes(b"ELF")
    (path / "rootfs/usr/bin/python3").chmod(0o755)
    (path / "rootfs/usr/lib").mkdir()
    (path / "rootfs/usr/lib/a.py").write_text("print()")
    (path / "rootfs/bin").symlink_to("usr/bin")
    (path / "bundle.json").write_text(json.dumps(AGENT))
    return path


def refused(bundle):
    with pytest.raises(InvalidInputError) as error:
        measure_bundle(bundle)
    assert error.value.code == "bundle-unmeasurable"
    return error.value.detail


def test_equal_bundles_in_different_places_have_equal_measurements(bundle, tmp_path):
    copy = tmp_path / "elsewhere"
    bundle.rename(copy)
    first = measure_bundle(copy)
    copy.rename(bundle)
    assert measure_bundle(bundle) == first
    assert (len(first.base), first.product_id) == (32, 1)


def test_a_boot_bundle_has_product_id_2(bundle):
    (bundle / "bundle.json").write_text(json.dumps(AGENT | {"kind": "boot", "product_id": 2}))
    assert measure_bundle(bundle).product_id == 2


def test_the_layout_of_the_settings_file_does_not_matter(bundle):
    first = measure_bundle(bundle)
    (bundle / "bundle.json").write_text(json.dumps(dict(reversed(AGENT.items())), indent=4))
    assert measure_bundle(bundle) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "usr/lib/a.py").write_text("print(1)"),
        lambda root: (root / "usr/lib/b.py").write_text(""),
        lambda root: (root / "usr/lib/a.py").rename(root / "usr/lib/c.py"),
        lambda root: (root / "usr/lib/a.py").chmod(0o755),
        lambda root: (root / "usr/lib/a.py").unlink(),
        lambda root: (root / "usr/empty").mkdir(),
        lambda root: ((root / "bin").unlink(), (root / "bin").symlink_to("usr/lib")),
        lambda root: (root / "../bundle.json").write_text(json.dumps(AGENT | {"args": ["/bin/sh"]})),
        lambda root: (root / "../bundle.json").write_text(json.dumps(AGENT | {"env": ["PYTHONPATH=/x"]})),
    ],
)
def test_every_change_changes_the_measurement(bundle, change):
    first = measure_bundle(bundle)
    change(bundle / "rootfs")
    assert measure_bundle(bundle).base != first.base


def test_times_and_owners_do_not_count(bundle):
    first = measure_bundle(bundle)
    os.utime(bundle / "rootfs/usr/lib/a.py", (1, 1))
    assert measure_bundle(bundle) == first


def test_a_pipe_is_refused(bundle):
    os.mkfifo(bundle / "rootfs/pipe")
    assert "pipe" in refused(bundle)


def test_a_socket_is_refused(bundle, monkeypatch):
    monkeypatch.chdir(bundle / "rootfs")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert "'s'" in refused(bundle)


@pytest.mark.root
def test_a_device_is_refused(bundle):
    os.mknod(bundle / "rootfs/null", 0o020666, os.makedev(1, 3))
    assert "null" in refused(bundle)


def test_a_name_that_is_not_utf8_is_refused(bundle):
    (bundle / os.fsdecode(b"rootfs/\xff")).write_text("")
    refused(bundle)


def test_a_link_target_that_is_not_utf8_is_refused(bundle):
    (bundle / "rootfs/l").symlink_to(os.fsdecode(b"\xff"))
    refused(bundle)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "[]",
        '{"kind":"agent"}',
        json.dumps(AGENT | {"product_id": 2}),
        json.dumps(AGENT | {"kind": "other", "product_id": 3}),
        json.dumps(AGENT | {"product_id": "1"}),
        json.dumps(AGENT)[:-1] + ',"kind":"agent"}',
        json.dumps(AGENT | {"env": ["x" * 100_000]}),
    ],
)
def test_settings_that_make_no_sense_are_refused(bundle, settings):
    (bundle / "bundle.json").write_text(settings)
    refused(bundle)


def test_a_bundle_without_settings_or_root_is_refused(bundle, tmp_path):
    refused(tmp_path / "absent")
    (bundle / "rootfs").rename(bundle / "other")
    refused(bundle)


def test_the_cache_gives_the_same_measurement_and_notices_changes(bundle):
    cache = MeasurementCache()
    first = measure_bundle(bundle, cache)
    assert measure_bundle(bundle, cache) == first == measure_bundle(bundle)
    (bundle / "rootfs/usr/lib/a.py").write_text("printf")
    assert measure_bundle(bundle, cache) == measure_bundle(bundle) != first


def test_the_cache_is_used_for_unchanged_files(bundle):
    class Recording(MeasurementCache):
        puts = 0

        def put(self, key, digest):
            self.puts += 1
            super().put(key, digest)

    cache = Recording()
    measure_bundle(bundle, cache)
    measure_bundle(bundle, cache)
    assert cache.puts == 2
