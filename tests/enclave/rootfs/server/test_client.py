"""A root file system served by another process: the same answers, and errors that arrive whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.enclave.rootfs.conftest import BINDING
from tests.enclave.rootfs.server.conftest import SMALL

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES

pytestmark = pytest.mark.root
ERRORS = [RefusedError("image-user-unknown", "x", stage=Stage.LAUNCH), OSError(5, "x")]


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 1]))


@pytest.mark.parametrize("backend", PREFERENCE)
def test_another_process_serves_and_leaves_nothing(served, in_private_mounts, backend):
    def body():
        mine = served().prepare(backend).open()
        assert mine.backend == backend
        assert (mine.root / "small").read_bytes() == SMALL
        (mine.root / "new").write_bytes(b"written")
        assert mine.server.trouble() is None
        mine.close()
        assert mine.process.wait(0) == 0

    in_private_mounts(body)


def test_without_an_order_the_server_just_ends(served, in_private_mounts):
    def body():
        mine = served()
        mine.close()
        mine.close()
        assert mine.process.wait(0) == 0

    in_private_mounts(body)


def test_what_was_only_prepared_is_removed(served, in_private_mounts):
    def body():
        served().prepare(PREFERENCE[0]).close()

    in_private_mounts(body)


def test_a_working_directory_that_is_not_there_is_named_when_it_matters(served, in_private_mounts):
    def body():
        mine = served()
        mine.work.rmdir()
        mine.prepare(PREFERENCE[0])
        with pytest.raises(UnavailableError) as caught:
            mine.open()
        assert caught.value.code == "rootfs-mount-failed"
        mine.work.mkdir()
        mine.close()

    in_private_mounts(body)


def test_a_refusal_arrives_whole(served, in_private_mounts):
    def body():
        mine = served()
        with pytest.raises(RefusedError) as caught:
            mine.open(manifest_sha256=bytes(32))
        error = caught.value
        assert (error.code, error.stage) == ("sealed-manifest-refused", Stage.MOUNT)
        assert "another digest" in error.detail
        assert [finding.rule for finding in error.findings] == ["rootfs.manifest"]
        mine.close()

    in_private_mounts(body)


@pytest.mark.parametrize(
    "changes",
    [{"fdk": Secret.random(32)}, {"binding": replace(BINDING, container_id="x")}],
    ids=["key", "binding"],
)
def test_a_wrong_key_or_binding_is_refused(served, in_private_mounts, changes):
    def body():
        mine = served()
        with pytest.raises(RefusedError) as caught:
            mine.open(**changes)
        assert caught.value.code == "sealed-manifest-refused"
        mine.close()

    in_private_mounts(body)


def test_a_second_attempt_after_a_refusal_works(served, in_private_mounts):
    def body():
        mine = served()
        with pytest.raises(RefusedError):
            mine.open(manifest_sha256=bytes(32))
        mine.open()
        assert (mine.root / "small").read_bytes() == SMALL
        mine.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_refused_chunk_is_told_with_its_region(sealed, served, in_private_mounts, backend):
    flip(sealed.blobs[1], 40 * STRIDE_BYTES + 99)

    def body():
        mine = served().prepare(backend).open()
        with pytest.raises(OSError, match="Errno 5"):
            (mine.root / "large").read_bytes()
        trouble = mine.server.trouble(5)
        assert (trouble.code, trouble.stage) == ("sealed-chunk-refused", Stage.MOUNT)
        (finding,) = trouble.findings
        assert finding.rule == "rootfs.chunk"
        assert finding.actual.startswith("layer 1: chunk 40")
        assert mine.server.trouble() is trouble
        mine.close()

    in_private_mounts(body)


def test_a_chunk_refused_while_mounting_explains_the_failure(sealed, served, in_private_mounts):
    flip(sealed.blobs[0], 1100)

    def body():
        mine = served()
        with pytest.raises(RefusedError) as caught, mine.server.explaining():
            mine.open()
        assert caught.value.code == "sealed-chunk-refused"
        assert caught.value.findings[0].actual.startswith("metadata: chunk 0")
        mine.close()

    in_private_mounts(body)


@pytest.mark.parametrize("error", ERRORS)
def test_without_trouble_what_failed_stays_what_it_was(served, in_private_mounts, error):
    def body():
        mine = served().open()
        with pytest.raises(type(error)) as caught, mine.server.explaining():
            raise error
        assert caught.value is error
        mine.close()

    in_private_mounts(body)
