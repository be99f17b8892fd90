"""The node's cache of blobs, shared by processes that trust each other with nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import RefusedError
from enclave_cc.transport.blobs.directory import BlobDirectory
from enclave_cc.transport.blobs.eviction import STALE_S

BLOB = b"ciphertext" * 100
DIGEST = Digest.of(BLOB)


@pytest.fixture
def cache(tmp_path):
    directory = BlobDirectory(tmp_path, max_bytes=3000, max_blob_bytes=2000)
    directory.create()
    return directory


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sha256" / DIGEST.hex


def read(cache, digest=DIGEST, size=1000):
    chunks = cache.open(digest, size)
    return None if chunks is None else b"".join(chunks)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "sha256").iterdir())


def test_a_blob_is_stored_under_its_digest_for_everybody_to_read(cache, file):
    mask = os.umask(0o077)
    try:
        cache.store(DIGEST, [BLOB[:7], BLOB[7:]])
    finally:
        os.umask(mask)
    assert file.read_bytes() == BLOB
    assert file.stat().st_mode & 0o777 == 0o644
    assert cache.touch(DIGEST)
    assert read(cache) == BLOB


@pytest.mark.parametrize(
    ("chunks", "code"),
    [([b"other bytes"], "digest-mismatch"), ([bytes(1500), bytes(1500)], "blob-too-large")],
)
def test_what_does_not_deserve_its_name_is_not_kept(cache, tmp_path, chunks, code):
    with pytest.raises(RefusedError) as caught:
        cache.store(DIGEST, chunks)
    assert caught.value.code == code
    assert names(tmp_path) == []


def test_a_writer_that_fails_leaves_nothing(cache, tmp_path):
    def broken():
        yield BLOB
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # whichever
        cache.store(DIGEST, broken())
    assert names(tmp_path) == []


def test_a_blob_of_another_size_is_not_served(cache):
    cache.store(DIGEST, [BLOB])
    assert read(cache, size=len(BLOB) + 1) is None


def test_a_blob_that_proved_wrong_is_removed_and_removing_it_twice_is_no_failure(cache):
    cache.store(DIGEST, [BLOB])
    cache.remove(DIGEST)
    cache.remove(DIGEST)
    assert not cache.touch(DIGEST)


def test_an_absent_directory_is_an_empty_one_that_cannot_be_written_to(tmp_path):
    cache = BlobDirectory(tmp_path / "absent")
    assert read(cache) is None
    cache.remove(DIGEST)
    with pytest.raises(OSError):  # noqa: PT011  # whichever
        cache.store(DIGEST, [BLOB])


def test_stale_writings_go_and_fresh_ones_stay(cache, tmp_path):
    stale, fresh = tmp_path / "sha256" / ".incoming-stale", tmp_path / "sha512" / ".incoming-fresh"
    for path in (stale, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - STALE_S - 1
    os.utime(stale, (long_ago, long_ago))
    cache.create()
    assert not stale.exists()
    assert fresh.exists()


def _three(cache):
    """Store three blobs of 1000 bytes, each used a little later than the one before."""
    blobs = [bytes([number]) * 1000 for number in range(4)]
    digests = [Digest.of(blob) for blob in blobs]
    for digest, blob in list(zip(digests, blobs, strict=True))[:3]:
        cache.store(digest, [blob])
        time.sleep(0.02)
    return digests, blobs


@pytest.mark.parametrize("use", [BlobDirectory.touch, read], ids=["touched", "read"])
def test_the_least_recently_used_blob_goes_first(cache, use):
    digests, blobs = _three(cache)
    use(cache, digests[0])
    cache.store(digests[3], [blobs[3]])
    assert [cache.touch(digest) for digest in digests] == [True, False, True, True]


def test_what_is_being_written_counts_and_is_not_removed(cache, tmp_path):
    digests, blobs = _three(cache)
    writing = tmp_path / "sha512" / ".incoming-x"
    writing.write_bytes(bytes(1000))
    os.utime(writing, (time.time() - 60, time.time() - 60))
    cache.store(digests[3], [blobs[3]])
    assert writing.exists()
    assert [cache.touch(digest) for digest in digests] == [False, False, True, True]


def test_somebody_who_holds_the_lock_delays_eviction_and_does_not_stop_it(cache, tmp_path):
    digests, blobs = _three(cache)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache.store(digests[3], [blobs[3]])
        assert [cache.touch(digest) for digest in digests] == [False, True, True, True]


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "directory", "fifo"])
def test_what_is_no_plain_file_of_its_own_is_neither_read_nor_followed(cache, tmp_path, file, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(BLOB)
    os.utime(elsewhere, (1, 1))
    match kind:
        case "symlink":
            file.symlink_to(elsewhere)
        case "hardlink":
            file.hardlink_to(elsewhere)
        case "directory":
            file.mkdir()
        case "fifo":
            os.mkfifo(file)
    assert not cache.touch(DIGEST)
    assert read(cache) is None
    assert elsewhere.stat().st_mtime == 1
    if kind != "directory":
        cache.store(DIGEST, [BLOB])
        assert read(cache) == BLOB
    assert elsewhere.read_bytes() == BLOB


def test_a_directory_that_is_a_link_leads_nowhere(cache, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / DIGEST.hex
    precious.write_bytes(BLOB)
    (tmp_path / "sha256").rmdir()
    (tmp_path / "sha256").symlink_to(outside)
    assert read(cache) is None
    cache.remove(DIGEST)
    with pytest.raises(OSError):  # noqa: PT011  # whichever
        cache.store(DIGEST, [BLOB])
    BlobDirectory(tmp_path, max_bytes=1).create()
    assert precious.read_bytes() == BLOB


def test_a_lock_that_is_a_link_or_a_fifo_holds_nobody_up(cache, tmp_path):
    for plant in (lambda path: path.symlink_to(tmp_path / "target"), os.mkfifo):
        (tmp_path / ".lock").unlink()
        plant(tmp_path / ".lock")
        cache.store(DIGEST, [BLOB])
    assert not (tmp_path / "target").exists()


WRITER = """
import sys, time
from pathlib import Path
from enclave_cc.core.digest import Digest
from enclave_cc.transport.blobs.directory import BlobDirectory
cache = BlobDirectory(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
def slowly(blob):
    yield blob[:1000]
    print("half", flush=True)
    time.sleep(60)
for number in range(int(sys.argv[3])):
    blob = number.to_bytes(2, "big") * 5000
    digest = Digest.of(blob)
    cache.store(digest, slowly(blob) if sys.argv[4] == "hang" else [blob])
    found = cache.open(digest, len(blob))
    assert found is None or b"".join(found) == blob
"""


def _writer(directory, *arguments):
    command = [sys.executable, "-c", WRITER, str(directory), *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_writers_in_several_processes_leave_whole_blobs_within_the_bound(tmp_path):
    BlobDirectory(tmp_path).create()
    writers = [_writer(tmp_path, 100_000, 60, "go") for _ in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    left = list((tmp_path / "sha256").iterdir())
    assert 0 < sum(path.stat().st_size for path in left) <= 125_000
    assert all(str(Digest.of(path.read_bytes())) == f"sha256:{path.name}" for path in left)


def test_a_writer_that_is_killed_leaves_no_blob_and_what_it_wrote_is_swept(tmp_path):
    cache = BlobDirectory(tmp_path)
    cache.create()
    writer = _writer(tmp_path, 100_000, 1, "hang")
    assert writer.stdout.readline() == b"half\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    (left,) = (tmp_path / "sha256").iterdir()
    assert left.name.startswith(".incoming-")
    os.utime(left, (1, 1))
    cache.create()
    assert names(tmp_path) == []


def test_entries_of_others_in_the_directory_are_no_obstacle(cache, tmp_path):
    (tmp_path / "notes").write_text("x")
    (tmp_path / "sha256" / "not-a-digest").mkdir()
    (tmp_path / "sha256" / "\udcff").write_text("x")
    os.mkfifo(tmp_path / "sha256" / ("f" * 64))
    cache.create()
    cache.store(DIGEST, [BLOB])
    assert read(cache) == BLOB
