"""A sealed image appears whole or not at all, and its directory holds nothing readable."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from enclave_cc.core.errors import RefusedError, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing import blob as blob_module
from enclave_cc.enclave.rootfs.sealing import writer as seal_module
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES
from enclave_cc.formats.sealed.manifest import SealedBlob, open_manifest

BINDING = Binding("pod", "container", "sha256:image")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def writer(directory, fdk=None):
    return SealedImageWriter(directory, fdk=fdk or Secret.random(32), binding=BINDING)


def hostile(name="file", **attributes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        tar.addfile(info)
    return buffer.getvalue()


def test_nothing_readable_lies_in_the_directory(tmp_path, archive):
    image = writer(tmp_path / "image")
    image.add_layer([archive(**{"telling-name": b"telling contents" * 5000})])
    image.finish()
    for path in (tmp_path / "image").iterdir():
        assert b"telling" not in path.read_bytes()
        assert "telling" not in path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_files_have_whole_chunks_and_the_manifest_counts_them(tmp_path, archive):
    fdk = Secret.random(32)
    image = writer(tmp_path / "image", fdk)
    image.add_layer([archive(a=bytes(200_000))])
    image.add_layer([archive(b=b"b")])
    sealed = image.finish()
    data = (tmp_path / "image" / "manifest.sealed").read_bytes()
    assert hashlib.sha256(data).digest() == sealed.manifest_sha256
    manifest = open_manifest(data, fdk=fdk, binding=BINDING)
    assert len(manifest.blobs) == 3
    for blob in manifest.blobs:
        assert (tmp_path / "image" / blob.name).stat().st_size == blob.chunks * STRIDE_BYTES
    assert len({bytes(blob.key.reveal()) for blob in manifest.blobs}) == 3


def test_pieces_of_any_size_give_the_same_tree(tmp_path, archive):
    layer = archive(a=bytes(70_000), b=b"b")
    fdk = Secret.random(32)
    image = writer(tmp_path / "image", fdk)
    buffer = bytearray(1000)

    def reused():
        for start in range(0, len(layer), len(buffer)):
            piece = layer[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]
            buffer[:] = b"\xff" * len(buffer)

    image.add_layer(reused())
    image.finish()
    manifest = open_manifest((tmp_path / "image" / "manifest.sealed").read_bytes(), fdk=fdk, binding=BINDING)
    assert manifest.blobs[1].chunks == 2


def test_an_empty_layer_is_a_layer(tmp_path):
    image = writer(tmp_path / "image")
    image.add_layer([])
    image.finish()


def test_there_is_no_manifest_before_the_end(tmp_path, archive):
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])
    assert [path.suffix for path in (tmp_path / "image").iterdir()] == [".blob"]
    image.finish()
    assert not list((tmp_path / "image").glob("*.manifest"))


def test_giving_up_removes_every_file(tmp_path, archive):
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])
    image.abort()
    assert not (tmp_path / "image").exists()
    image.abort()


def test_a_directory_of_the_caller_stays(tmp_path, archive):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "other").touch()
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])
    image.abort()
    assert [path.name for path in (tmp_path / "image").iterdir()] == ["other"]


def test_giving_up_after_the_end_changes_nothing(tmp_path, archive):
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])
    image.finish()
    image.abort()
    assert len(list((tmp_path / "image").iterdir())) == 3


@pytest.mark.parametrize("ended", ["finish", "abort"])
def test_an_ended_writer_seals_nothing_more(tmp_path, ended):
    image = writer(tmp_path / "image")
    getattr(image, ended)()
    # What was given up has a reason elsewhere, which this must not hide.
    expected = RuntimeError if ended == "finish" else GivenUpError
    with pytest.raises(expected):
        image.reserve_place()
    with pytest.raises(expected):
        image.finish()


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (b"no archive" * 100, "tar-invalid"),
        (hostile()[:300], "tar-invalid"),
        (hostile("../file"), "tar-path-escapes"),
        (hostile("a/../../file"), "tar-path-escapes"),
        (hostile(type=tarfile.LNKTYPE, linkname="../../etc/passwd"), "tar-path-escapes"),
        (hostile(type=tarfile.LNKTYPE, linkname="absent"), "tar-invalid"),
        (hostile("n" * 256), "tar-invalid"),
    ],
)
def test_a_bad_layer_is_refused_and_leaves_nothing(tmp_path, archive, layer, code):
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])
    with pytest.raises(RefusedError) as caught:
        image.add_layer([layer])
    assert caught.value.code == code
    assert "file" not in caught.value.summary
    assert not (tmp_path / "image").exists()


def test_too_many_layers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(seal_module, "MAX_BLOBS", 2)
    image = writer(tmp_path / "image")
    image.add_layer([])
    with pytest.raises(RefusedError) as caught:
        image.add_layer([])
    assert caught.value.code == "tar-too-large"


def test_a_layer_that_is_too_large_is_refused(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(seal_module, "MAX_CHUNKS", 3)
    with pytest.raises(RefusedError) as caught:
        writer(tmp_path / "image").add_layer([archive(a=bytes(300_000))])
    assert caught.value.code == "tar-too-large"


def test_an_error_of_the_stream_passes_through_and_leaves_nothing(tmp_path, archive):
    def broken():
        yield archive(a=bytes(100_000))[:70_000]
        raise OSError(errno.EIO, "the source's own trouble")

    image = writer(tmp_path / "image")
    with pytest.raises(OSError, match="own trouble"):
        image.add_layer(broken())
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("failing", ["write_all", "rename"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, archive, monkeypatch, failing):
    image = writer(tmp_path / "image")
    image.add_layer([archive(a=b"a")])

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(*((os, "rename") if failing == "rename" else (blob_module, "write_all")), full)
    with pytest.raises(UnavailableError) as caught:
        image.finish()
    assert caught.value.code == "sealed-store-unwritable"
    assert not (tmp_path / "image").exists()


def test_a_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "image").symlink_to("elsewhere")
    with pytest.raises(UnavailableError):
        writer(tmp_path / "image")


def test_descriptors_are_closed(tmp_path, archive):
    before = open_descriptors()
    for number, layer in enumerate([archive(a=b"a"), b"bad" * 1000]):
        image = writer(tmp_path / f"image{number}")
        try:
            image.add_layer([layer])
            image.finish()
        except RefusedError:
            continue
    assert open_descriptors() == before


def test_a_layer_that_vanishes_because_another_failed_was_not_changed_by_the_host(
    tmp_path, archive, monkeypatch
):
    first, second = writer(tmp_path / "first"), writer(tmp_path / "second")
    first.add_layer([archive(a=b"a")])
    blob = first.copy_of(0)
    name = second.directory.link_blob(tmp_path / "first" / blob.name, blob.chunks)
    require_open = second._require_open

    def fail_elsewhere():
        require_open()
        second.abort()

    place = second.reserve_place()
    monkeypatch.setattr(second, "_require_open", fail_elsewhere)
    with pytest.raises(GivenUpError):
        second.reuse_place(place, SealedBlob(name, blob.chunks, blob.key))
    assert not (tmp_path / "second").exists()
