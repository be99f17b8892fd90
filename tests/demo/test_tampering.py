"""The breaking of things breaks one byte and nothing else."""

from __future__ import annotations

from enclave_cc.core.digest import Digest
from enclave_cc.demo.scene.paths import ScenePaths
from enclave_cc.demo.story.tampering import flip_byte, flip_stored_blob, largest_file


def test_one_byte_changes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    flip_byte(path, 1)
    assert path.read_bytes() == b"acc"


def test_a_stored_blob_is_changed_where_the_registry_keeps_it(tmp_path):
    digest = Digest.of(b"layer")
    blob = (
        tmp_path / "registry/storage/docker/registry/v2/blobs/sha256" / digest.hex[:2] / digest.hex / "data"
    )
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"layer")
    flip_stored_blob(ScenePaths(tmp_path), digest)
    assert blob.read_bytes() == b"laxer"


def test_the_largest_file_is_found_at_any_depth(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "small").write_bytes(b"1")
    (tmp_path / "a/b/large").write_bytes(b"123")
    assert largest_file(tmp_path) == tmp_path / "a/b/large"
