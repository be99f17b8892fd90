"""The scanner finds what tarfile wrote, and refuses what readers of tar would disagree about."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats.tar.entry import EntryKind, TarEntry, TarError
from enclave_cc.formats.tar.scanner import MAX_METADATA_BYTES, TarScanner

KINDS = {
    tarfile.REGTYPE: EntryKind.FILE,
    tarfile.LNKTYPE: EntryKind.HARD_LINK,
    tarfile.SYMTYPE: EntryKind.SYMBOLIC_LINK,
    tarfile.DIRTYPE: EntryKind.DIRECTORY,
    tarfile.CHRTYPE: EntryKind.CHARACTER_DEVICE,
    tarfile.BLKTYPE: EntryKind.BLOCK_DEVICE,
    tarfile.FIFOTYPE: EntryKind.FIFO,
}
END = bytes(1024)


def scan(data: bytes, **options) -> list[TarEntry]:
    scanner = TarScanner(**options)
    entries = list(scanner.feed(data))
    scanner.close()
    return entries


def header(name=b"file", typeflag=b"0", *, magic=b"ustar\x0000", prefix=b"", **numbers) -> bytes:
    fields = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0"}
    fields |= {
        "size": b"00000000000\0",
        "mtime": b"00000000000\0",
        "major": b"0000000\0",
        "minor": b"0000000\0",
    }
    fields |= numbers
    link = fields.pop("link", b"")
    block = name.ljust(100, b"\0") + fields["mode"] + fields["uid"] + fields["gid"] + fields["size"]
    block += fields["mtime"] + b" " * 8 + typeflag + link.ljust(100, b"\0") + magic.ljust(72, b"\0")
    block += fields["major"] + fields["minor"] + prefix.ljust(155, b"\0") + bytes(12)
    assert len(block) == 512
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def payload(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def octal(value: int) -> bytes:
    return b"%011o\0" % value


def extended(typeflag: bytes, data: bytes) -> bytes:
    return header(b"ext", typeflag, size=octal(len(data))) + payload(data)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while length != len(key) + len(value) + 3 + len(str(length)):
        length = len(key) + len(value) + 3 + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=200).filter(
    lambda name: name not in (".", "..")
)


@st.composite
def members(draw):
    info = tarfile.TarInfo("/".join(draw(st.lists(names, min_size=1, max_size=3))))
    info.type = draw(st.sampled_from(sorted(KINDS)))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid = draw(st.integers(0, (1 << 32) - 1))
    info.gid = draw(st.integers(0, (1 << 32) - 1))
    info.mtime = draw(st.integers(-(1 << 40), 1 << 40))
    if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        info.linkname = draw(names)
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, (1 << 20) - 1))
    data = b""
    if info.type == tarfile.REGTYPE:
        data = draw(st.binary(max_size=1100))
        info.size = len(data)
    if draw(st.booleans()):
        info.pax_headers = {"SCHILY.xattr.user.note": draw(names)}
    return info, data


def archive(contents, tar_format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for info, data in contents:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@given(st.lists(members(), max_size=5), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_entries_are_what_tarfile_wrote(contents, tar_format):
    data = archive(contents, tar_format)
    entries = scan(data)
    assert len(entries) == len(contents)
    for entry, (info, body) in zip(entries, contents, strict=True):
        assert entry.path.rstrip(b"/").decode() == info.name.rstrip("/")
        assert entry.kind is KINDS[info.type]
        assert (entry.mode, entry.uid, entry.gid, entry.mtime_s) == (
            info.mode,
            info.uid,
            info.gid,
            info.mtime,
        )
        assert entry.target.decode() == info.linkname
        assert entry.device == (info.devmajor, info.devminor)
        assert data[entry.data_offset : entry.data_offset + entry.size] == body
        if tar_format == tarfile.PAX_FORMAT and info.pax_headers:
            assert entry.xattrs == {b"user.note": info.pax_headers["SCHILY.xattr.user.note"].encode()}


@given(st.lists(members(), max_size=4), st.lists(st.integers(0, 20_000), max_size=12))
def test_pieces_of_any_size_give_the_same_entries(contents, cuts):
    data = archive(contents, tarfile.PAX_FORMAT)
    scanner = TarScanner()
    entries = []
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(bounds):
        entries += scanner.feed(memoryview(data)[start:end])
    scanner.close()
    assert entries == scan(data)


def scan_again(data: bytes, piece_bytes: int) -> tuple[list[TarEntry], int]:
    """Scan without what is idle, in pieces up to multiples of a size; return how much was seen, too."""
    scanner, entries, position, seen = TarScanner(), [], 0, 0
    while position < len(data):
        idle = min(scanner.idle_bytes, len(data) - position)
        scanner.skip(idle)
        position += idle
        piece = data[position : position - position % piece_bytes + piece_bytes]
        entries += scanner.feed(piece)
        position += len(piece)
        seen += len(piece)
    scanner.close()
    return entries, seen


@given(st.lists(members(), max_size=5), st.sampled_from([512, 700, 65536]))
def test_entries_are_the_same_without_what_is_idle(contents, piece_bytes):
    data = archive(contents, tarfile.PAX_FORMAT)
    assert scan_again(data, piece_bytes)[0] == scan(data)


def test_contents_of_files_and_what_follows_the_end_are_idle():
    info = tarfile.TarInfo("file")
    info.size = 1_000_000
    data = archive([(info, bytes(info.size))], tarfile.PAX_FORMAT) + bytes(500_000)
    entries, seen = scan_again(data, 512)
    assert entries == scan(data)
    assert seen == 3 * 512


def test_what_is_wanted_is_not_skipped():
    with pytest.raises(ValueError, match="wanted"):
        TarScanner().skip(1)


def test_single_bytes_give_the_same_entries():
    data = archive([(tarfile.TarInfo("n" * 300), b"")], tarfile.PAX_FORMAT)
    scanner = TarScanner()
    entries = [entry for octet in data for entry in scanner.feed(bytes([octet]))]
    assert entries == scan(data)


@given(st.binary(max_size=3000))
def test_any_bytes_give_entries_or_the_declared_error(data):
    with contextlib.suppress(TarError):
        scan(data)


@settings(max_examples=300)
@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_damaged_archives_give_entries_or_the_declared_error(contents, data):
    damaged = bytearray(
        archive(contents, data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
    )
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    # A right checksum lets the damage reach what comes after it.
    for start in range(0, len(damaged), 512):
        block = damaged[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            damaged[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(TarError):
        scan(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def test_an_empty_stream_has_no_entries():
    assert scan(b"") == []


def test_an_archive_may_end_without_zero_blocks():
    assert [entry.path for entry in scan(header())] == [b"file"]


def test_bytes_after_the_end_are_no_entries():
    assert scan(END + header()) == []


def test_names_of_old_archives_are_not_joined_with_a_prefix():
    assert scan(header(magic=b"ustar  \0", prefix=b"no") + END)[0].path == b"file"
    assert scan(header(prefix=b"dir") + END)[0].path == b"dir/file"


def test_a_trailing_slash_marks_a_directory_in_old_archives():
    assert scan(header(b"dir/", b"\0") + END)[0].kind is EntryKind.DIRECTORY


def test_other_kinds_than_files_have_no_data():
    entries = scan(header(b"dir", b"5", size=octal(512)) + header(b"next") + END)
    assert [(entry.path, entry.size) for entry in entries] == [(b"dir", 0), (b"next", 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.5", (1, 500_000_000)),
        (b"-1.5", (-2, 500_000_000)),
        (b"-0.000000001", (-1, 999_999_999)),
        (b"7", (7, 0)),
        (b"7.", (7, 0)),
        (b"3.1234567899", (3, 123_456_789)),
    ],
)
def test_times_have_nanoseconds(text, expected):
    entry = scan(extended(b"x", record(b"mtime", text)) + header() + END)[0]
    assert (entry.mtime_s, entry.mtime_ns) == expected


def test_extended_headers_override_and_end_with_their_entry():
    pax = record(b"path", b"long") + record(b"size", b"3") + record(b"uid", b"7") + record(b"gid", b"8")
    first, second = scan(extended(b"x", pax) + header() + payload(b"abc") + header(b"next") + END)
    assert (first.path, first.size, first.uid, first.gid) == (b"long", 3, 7, 8)
    assert (second.path, second.size, second.uid, second.gid) == (b"next", 0, 0, 0)


def test_a_global_header_without_effect_is_skipped():
    assert len(scan(extended(b"g", record(b"comment", b"0123abc")) + header() + END)) == 1


def test_xattrs_may_be_empty_and_hold_any_bytes():
    pax = record(b"SCHILY.xattr.user.a", b"") + record(b"SCHILY.xattr.user.b", b"\0\xff=\n")
    assert scan(extended(b"x", pax) + header() + END)[0].xattrs == {b"user.a": b"", b"user.b": b"\0\xff=\n"}


REFUSED = {
    "a wrong checksum": b"g" + header()[1:],
    "an unknown type": header(typeflag=b"Z"),
    "an old sparse file": header(typeflag=b"S"),
    "a new sparse file": extended(b"x", record(b"GNU.sparse.major", b"1")) + header(),
    "a cut-off header": header()[:500],
    "cut-off data": header(size=octal(513)) + bytes(512),
    "a cut-off extended header": extended(b"x", record(b"path", b"p" * 600))[:1024],
    "an extended header without entry": extended(b"x", record(b"path", b"p")) + END,
    "an extended header at the end": extended(b"L", b"name\0"),
    "a zero block in the middle": bytes(512) + header(),
    "two extended headers": extended(b"x", record(b"a", b"b")) * 2 + header(),
    "two long names": extended(b"L", b"one\0") + extended(b"x", record(b"path", b"two")) + header(),
    "a large extended header": header(typeflag=b"x", size=octal(MAX_METADATA_BYTES + 1)),
    "a global path": extended(b"g", record(b"path", b"p")) + header(),
    "a global attribute": extended(b"g", record(b"SCHILY.xattr.user.a", b"p")) + header(),
    "a signed number": header(mode=b"-000644\0"),
    "an underscore in a number": header(mode=b"0_00644\0"),
    "a digit that is not octal": header(mode=b"0000948\0"),
    "a negative size": header(size=b"\xff" * 12),
    "a huge size": header(size=b"\x80" + b"\xff" * 11),
    "a huge owner": header(uid=b"\x80\0\0\x01\0\0\0\0"),
    "a negative owner": header(uid=b"\xff" * 8),
    "a huge device": header(typeflag=b"3", major=b"7777777\0"),
    "an empty path": header(b""),
    "a link to nothing": header(typeflag=b"2"),
    "a long path": extended(b"x", record(b"path", b"p" * 4097)) + header(),
    "a NUL in a path": extended(b"x", record(b"path", b"a\0b")) + header(),
    "an old directory with data": header(b"dir/", b"\0", size=octal(512)) + bytes(512),
    "a signed PAX number": extended(b"x", record(b"size", b"-1")) + header(),
    "a PAX time that is none": extended(b"x", record(b"mtime", b"1e9")) + header(),
    "a time out of range": extended(b"x", record(b"mtime", b"9" * 19)) + header(),
    "a PAX record without length": extended(b"x", b"path=a\n") + header(),
    "a PAX record that is too long": extended(b"x", b"99 path=a\n") + header(),
    "a PAX record without equals sign": extended(b"x", b"7 path\n") + header(),
    "a PAX record of length zero": extended(b"x", b"0 path=a\n") + header(),
    "an attribute without name": extended(b"x", record(b"SCHILY.xattr.", b"a")) + header(),
    "an attribute with a long name": extended(b"x", record(b"SCHILY.xattr." + b"a" * 256, b"a")) + header(),
    "an attribute with a long value": extended(b"x", record(b"SCHILY.xattr.user.a", b"a" * 65536)) + header(),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_the_scanner_refuses(data):
    with pytest.raises(TarError):
        scan(data)


def test_the_number_of_headers_is_bounded():
    assert len(scan(header() * 3, max_headers=3)) == 3
    with pytest.raises(TarError, match="too many"):
        scan(header() * 4, max_headers=3)
    with pytest.raises(TarError, match="too many"):
        scan(extended(b"g", record(b"comment", b"c")) * 4, max_headers=3)
