"""Archives of tools that people use, and odd ones that readers of the container world accept."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile

import pytest
from tests.formats.tar.sparse_archives import END, header, payload, record, summed, with_records

from enclave_cc.formats.tar.entry import EntryKind, TarEntry, TarError
from enclave_cc.formats.tar.scanner import TarScanner

LONG = "d" * 200 + "/" + "f" * 200
# Not UTF-8, and 255 bytes.
BYTES = b"\xe9\x80" * 127 + b"x"


def scan(data: bytes, **options) -> list[TarEntry]:
    scanner = TarScanner(**options)
    entries = list(scanner.feed(data))
    scanner.close()
    return entries


@pytest.fixture
def source(tmp_path):
    """A directory with names that need every kind of extension."""
    root = tmp_path / "source"
    (root / ("d" * 200)).mkdir(parents=True)
    (root / LONG).write_bytes(b"long")
    (root / os.fsdecode(BYTES)).write_bytes(b"bytes")
    (root / "link").symlink_to(LONG)
    os.link(root / LONG, root / "hard")
    os.mkfifo(root / "fifo")
    os.utime(root / os.fsdecode(BYTES), ns=(0, 1_700_000_000_123_456_789))
    return root


WRITERS = {
    "gnu tar": ["tar", "--format=gnu", "-cf", "-", "."],
    "gnu tar, old": ["tar", "--format=oldgnu", "-cf", "-", "."],
    "gnu tar, pax": ["tar", "--format=pax", "-cf", "-", "."],
    "bsdtar, pax": ["bsdtar", "--format=pax", "-cf", "-", "."],
    "bsdtar, restricted": ["bsdtar", "--format=paxr", "-cf", "-", "."],
    "bsdtar, gnu": ["bsdtar", "--format=gnutar", "-cf", "-", "."],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_names_that_need_extensions_are_read(source, writer):
    command = WRITERS[writer]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    entries = {entry.path.removeprefix(b"./"): entry for entry in scan(result.stdout)}
    assert {LONG.encode(), BYTES, b"link", b"hard", b"fifo"} <= entries.keys()
    assert entries[b"link"].target == LONG.encode()
    assert entries[BYTES].mtime_s == 1_700_000_000
    assert entries[b"fifo"].kind is EntryKind.FIFO
    assert {entries[b"hard"].kind, entries[LONG.encode()].kind} == {EntryKind.FILE, EntryKind.HARD_LINK}


def test_times_of_pax_writers_have_nanoseconds(source):
    result = subprocess.run(WRITERS["gnu tar, pax"], cwd=source, check=True, capture_output=True)
    entry = next(entry for entry in scan(result.stdout) if entry.path.endswith(BYTES))
    assert entry.mtime_ns == 123_456_789


def test_archives_of_git_are_read(tmp_path):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=a", "-c", "user.email=a@host.example"]

    def git(*arguments: str) -> bytes:
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout

    git("init", "-q")
    (tmp_path / "file").write_text("text")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    archive = git("archive", "HEAD")
    assert b"pax_global_header" in archive
    assert [entry.path for entry in scan(archive)] == [b"file"]


def with_pax(records: bytes) -> TarEntry:
    (entry,) = scan(with_records(records, 0) + END)
    return entry


def test_attributes_of_libarchive_are_skipped_as_containerd_skips_them():
    entry = with_pax(record("LIBARCHIVE.xattr.user.a", "dmFsdWU=") + record("SCHILY.xattr.user.a", "value"))
    assert entry.xattrs == {b"user.a": b"value"}


@pytest.mark.parametrize(
    "records",
    [
        record("hdrcharset", "BINARY"),
        record("uname", "nobody") + record("gname", "nogroup"),
        record("atime", "1.5") + record("ctime", "-1.5"),
        record("SCHILY.fflags", "nodump"),
        record("RHT.security.selinux", "system_u:object_r:etc_t:s0"),
        record("VENDOR.key", "value"),
        record("path", ""),
    ],
    ids=lambda records: records.split()[1].partition(b"=")[0].decode(),
)
def test_records_without_effect_are_skipped(records):
    assert with_pax(records) == with_pax(record("comment", "nothing"))


@pytest.mark.parametrize("typeflag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_only_files_have_data(typeflag):
    block = bytearray(header(1024, typeflag))
    block[157:161] = b"link"
    first, second = scan(summed(bytes(block)) + header(0) + END)
    assert (first.size, second.path) == (0, b"file")


def test_contiguous_files_are_files():
    assert scan(header(3, b"7") + payload(b"abc") + END)[0].size == 3


@pytest.mark.parametrize("typeflag", [b"A", b"D", b"M", b"N", b"V", b"X", b"Z", b"8", b"\xff"])
def test_other_types_are_refused(typeflag):
    with pytest.raises(TarError, match="unknown type"):
        scan(header(0, typeflag) + END)


def test_archives_before_posix_are_read():
    block = bytearray(header(3, b"\0", magic=bytes(8)))
    (entry,) = scan(bytes(block) + payload(b"abc"))
    assert (entry.kind, entry.size) == (EntryKind.FILE, 3)


def test_numbers_may_be_base_256_and_times_negative():
    info = tarfile.TarInfo("file")
    info.uid, info.mtime, info.size = 3 << 30, -86_400, 0
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    (entry,) = scan(buffer.getvalue())
    assert (entry.uid, entry.mtime_s) == (3 << 30, -86_400)


def test_all_permissions_are_kept():
    info = tarfile.TarInfo("file")
    info.mode = 0o107777
    assert scan(info.tobuf() + END)[0].mode == 0o7777


def test_a_second_archive_behind_the_end_is_no_part_of_the_first():
    assert len(scan(header(0) + END + header(0) * 2 + END)) == 1


@pytest.mark.parametrize("end", [b"", bytes(512), END, END + b"rest", bytes(10240)], ids=len)
def test_an_archive_may_end_as_readers_accept_it(end):
    assert len(scan(header(0) + end)) == 1


def test_paths_are_bounded_as_the_caller_wants():
    assert scan(with_records(record("path", "p" * 50), 0) + END, max_path_bytes=50)
    with pytest.raises(TarError, match="out of bounds"):
        scan(with_records(record("path", "p" * 51), 0) + END, max_path_bytes=50)
