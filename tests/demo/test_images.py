"""The demo's images are made in memory, the same every time, with what the story needs in them."""

from __future__ import annotations

import io
import tarfile

from enclave_cc.demo.images import busybox, debian
from enclave_cc.formats.oci.media_types import Compression


def _entries(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {entry.name: entry for entry in archive}


def _content(tar, name):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.extractfile(name).read()


def test_equal_input_gives_equal_layers(tmp_path):
    (tmp_path / "busybox").write_bytes(b"program")
    first, second = (busybox.workload_image(tmp_path / "busybox", marker="m") for _ in range(2))
    assert [layer.tar.tar() for layer in first.layers] == [layer.tar.tar() for layer in second.layers]
    assert first.process == second.process


def test_the_workload_carries_its_marker_and_a_large_file_that_nobody_reads_at_start(tmp_path):
    (tmp_path / "busybox").write_bytes(b"program")
    plan = busybox.workload_image(tmp_path / "busybox", marker="the-marker")
    data = plan.layers[-1].tar.tar()
    assert _content(data, busybox.MARKER_FILE) == b"the-marker\n"
    assert _entries(data)[busybox.UNTOUCHED_FILE].size == busybox.UNTOUCHED_BYTES
    assert busybox.UNTOUCHED_FILE not in _content(plan.layers[0].tar.tar(), "usr/local/bin/greet").decode()


def test_the_server_image_has_libraries_server_data_and_removals(tmp_path, monkeypatch):
    packages = [tmp_path / "libc6_1_amd64.deb", tmp_path / "redis-server_1_amd64.deb"]
    for path in packages:
        path.write_bytes(b"")
    entry = tarfile.TarInfo("usr/bin/redis-server")
    entry.type, entry.linkname = tarfile.SYMTYPE, "redis-check-rdb"
    monkeypatch.setattr(debian, "closure", lambda roots, _cache: roots)
    monkeypatch.setattr(debian, "download", lambda _packages, _cache: tuple(packages))
    monkeypatch.setattr(debian, "files", lambda _package: [(entry, b"")])
    plan = debian.server_image(tmp_path, port=7777, marker="the-marker")
    libraries, server, configuration, removals = (layer.tar.tar() for layer in plan.layers)
    assert debian.REMOVED_FILE in _entries(libraries)
    assert "usr/bin/redis-server" in _entries(server)
    assert b"port 7777\n" in _content(configuration, "etc/redis/redis.conf")
    base = _content(configuration, "var/lib/redis/appendonlydir/appendonly.aof.1.base.aof")
    assert b"$8\r\ngreeting\r\n$10\r\nthe-marker\r\n" in base
    assert {"usr/share/.wh.doc", "etc/.wh.secret.txt"} <= set(_entries(removals))
    assert [layer.compression for layer in plan.layers] == [
        Compression.GZIP,
        Compression.ZSTD,
        Compression.GZIP,
        Compression.NONE,
    ]


def test_pseudo_random_bytes_depend_on_the_seed_only():
    assert busybox.pseudo_random(64, seed="a") == busybox.pseudo_random(64, seed="a")
    assert busybox.pseudo_random(64, seed="a") != busybox.pseudo_random(64, seed="b")
