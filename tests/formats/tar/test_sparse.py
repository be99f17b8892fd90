"""Sparse files of all four formats become chunks that give back every byte; maps that lie are refused."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats.tar.sparse_archives import (
    END,
    FORMATS,
    header,
    in_data,
    in_header,
    in_one_record,
    in_pairs,
    payload,
    record,
    with_records,
)

from enclave_cc.formats.tar.chunked import COPY, HOLE, ChunkedFile
from enclave_cc.formats.tar.entry import EntryKind, TarEntry, TarError
from enclave_cc.formats.tar.scanner import TarScanner
from enclave_cc.formats.tar.sparse_map import MAX_MAP_BYTES, MAX_SEGMENTS, Segment

PAIRS = [(0, 512), (4096, 8192), (65536, 100)]


def scan(data: bytes, **options) -> list[TarEntry]:
    scanner = TarScanner(**options)
    entries = list(scanner.feed(data))
    scanner.close()
    return entries


def contents(entry: TarEntry, archive: bytes) -> bytes:
    """Read a file as a file system on blocks does."""
    if entry.chunks is None:
        return archive[entry.data_offset : entry.data_offset + entry.size]
    chunk, copied, pieces = 512 << entry.chunks.chunk_bits, 0, []
    for block in entry.chunks.blocks:
        match block:
            case _ if block == HOLE:
                pieces.append(bytes(chunk))
            case _ if block == COPY:
                pieces.append(entry.chunks.copies[copied : copied + chunk])
                copied += chunk
            case _:
                start = entry.data_offset + block * 512
                pieces.append(archive[start : start + chunk])
    assert copied - len(entry.chunks.copies) in range(chunk)
    assert len(entry.chunks.copies) % 512 == 0
    return b"".join(pieces)[: entry.size]


def expanded(size: int, segments, data: bytes) -> bytes:
    whole, place = bytearray(size), 0
    for offset, length in segments:
        whole[offset : offset + length] = data[place : place + length]
        place += length
    return bytes(whole)


@st.composite
def sparse_files(draw):
    """Segments as archivers write them, and as nobody does."""
    unit = draw(st.sampled_from([1, 100, 512, 4096]))
    steps = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=40))
    segments, end = [], 0
    for gap, length in steps:
        segments.append((end + gap * unit, length * unit))
        end = sum(segments[-1])
    size = end + draw(st.sampled_from([0, 1, 511, 512, 5000, 1 << 20]))
    if draw(st.booleans()):
        segments.append((size, 0))
    data = draw(st.randoms()).randbytes(sum(length for _, length in segments))
    return size, segments, data


@settings(max_examples=200)
@given(sparse_files(), st.sampled_from(sorted(FORMATS)))
def test_chunks_give_back_every_byte(file, version):
    size, segments, data = file
    if version != "old" and not segments:
        segments = [(size, 0)]
    archive = FORMATS[version](size, segments, data) + header(0) + END
    first, second = scan(archive)
    assert contents(first, archive) == expanded(size, segments, data)
    assert (first.size, first.kind, second.size) == (size, EntryKind.FILE, 0)


@settings(max_examples=50)
@given(sparse_files(), st.sampled_from(sorted(FORMATS)), st.sampled_from([512, 4096]))
def test_skipping_what_is_idle_gives_the_same_bytes(file, version, piece_bytes):
    size, segments, data = file
    archive = FORMATS[version](size, segments or [(size, 0)], data) * 2 + END
    scanner, entries, position = TarScanner(), [], 0
    while position < len(archive):
        scanner.skip(idle := min(scanner.idle_bytes, len(archive) - position))
        position += idle
        piece = archive[position : position - position % piece_bytes + piece_bytes]
        entries += scanner.feed(piece)
        position += len(piece)
    scanner.close()
    assert [contents(entry, archive) for entry in entries] == [
        contents(entry, archive) for entry in scan(archive)
    ]


@settings(max_examples=50)
@given(sparse_files(), st.sampled_from(sorted(FORMATS)), st.lists(st.integers(1, 9000), min_size=1))
def test_pieces_of_any_size_give_the_same_bytes(file, version, sizes):
    size, segments, data = file
    archive = FORMATS[version](size, segments or [(size, 0)], data) * 2 + END
    scanner, entries, position, step = TarScanner(), [], 0, 0
    while position < len(archive):
        piece = archive[position : position + sizes[step % len(sizes)]]
        entries += scanner.feed(memoryview(piece))
        position, step = position + len(piece), step + 1
    scanner.close()
    assert [contents(entry, archive) for entry in entries] == [expanded(size, segments, data)] * 2


@pytest.mark.parametrize("version", ["0.1", "1.0", "old"])
def test_python_reads_the_archives_of_these_tests(version):
    data = bytes(range(1, 101)) * 88 + b"e" * 4
    segments = [(0, 512), (4096, 8192), (65536, 100)]
    archive = FORMATS[version](65636, segments, data) + END
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        assert tar.extractfile(member).read() == expanded(65636, segments, data)


def test_the_name_of_a_sparse_file_is_the_one_it_had():
    assert scan(in_data(512, [(0, 512)], bytes(512)) + END)[0].path == b"real"


def test_segments_of_whole_chunks_are_not_copied():
    data = bytes(12288)
    entry = scan(in_data(1 << 20, [(0, 4096), (8192, 8192)], data) + END)[0]
    assert not entry.chunks.copies
    assert entry.chunks.chunk_bits == 3
    assert list(entry.chunks.blocks[:5]) == [0, HOLE, 8, 16, HOLE]


def test_bytes_behind_a_segment_never_show():
    data = b"a" * 100 + b"b" * 100
    archive = in_data(2048, [(0, 100), (1024, 100)], data) + END
    assert contents(scan(archive)[0], archive) == b"a" * 100 + bytes(924) + b"b" * 100 + bytes(924)


def test_a_file_without_holes_is_an_ordinary_one():
    entry = scan(in_data(1000, [(0, 500), (500, 500)], b"d" * 1000) + END)[0]
    assert (entry.chunks, entry.size) == (None, 1000)


def test_a_huge_file_with_a_little_data_costs_little():
    segments = [(0, 300), (1 << 40, 4096), ((1 << 41) - 7, 7)]
    entry = scan(in_data(1 << 41, segments, bytes(4403)) + END)[0]
    assert entry.chunks.cost_bytes < 11 << 20


def test_a_hole_costs_next_to_nothing():
    entry = scan(in_data(1 << 41, [(1 << 41, 0)], b"") + END)[0]
    assert entry.chunks.cost_bytes <= 8192


def test_what_sparse_files_cost_is_bounded():
    archive = in_data(1 << 21, [(offset, 1) for offset in range(0, 1 << 21, 4096)], bytes(512)) + END
    cost = scan(archive)[0].chunks.cost_bytes
    scan(archive, max_sparse_bytes=cost)
    with pytest.raises(TarError, match="too scattered"):
        scan(archive, max_sparse_bytes=cost - 1)
    twice = archive[:-1024] * 2 + END
    scan(twice, max_sparse_bytes=2 * cost)
    with pytest.raises(TarError, match="too scattered"):
        scan(twice, max_sparse_bytes=2 * cost - 1)


def test_a_chunked_file_says_when_it_has_all_copies():
    file = ChunkedFile(2048, (Segment(10, 20), Segment(1100, 30)), max_bytes=1 << 20)
    assert file.copy(b"a" * 30, 0)
    assert not file.copy(b"b" * 30, 30)


def sparse(**records: object) -> bytes:
    """Write a file of 512 stored bytes with these records of a sparse one."""
    text = b"".join(record(f"GNU.sparse.{key}", value) for key, value in records.items())
    return with_records(text, 512) + bytes(512)


def directory_with(archive: bytes) -> bytes:
    """Make the last header of an archive without data that of a directory."""
    block = bytearray(archive)
    block[-512 + 156] = ord("5")
    block[-512 + 148 : -512 + 156] = b" " * 8
    block[-512 + 148 : -512 + 156] = b"%06o\0 " % sum(block[-512:])
    return bytes(block)


MANY = MAX_SEGMENTS + 1
REFUSED = {
    "overlapping segments": in_data(4096, [(0, 1024), (512, 512)], bytes(1536)),
    "unordered segments": in_data(4096, [(1024, 512), (0, 512)], bytes(1024)),
    "an empty segment out of order": in_data(4096, [(1024, 512), (0, 0)], bytes(512)),
    "a segment beyond the end": in_data(1000, [(512, 512)], bytes(512)),
    "an empty segment beyond the end": in_data(1000, [(0, 512), (1001, 0)], bytes(512)),
    "less data than segments": in_data(4096, [(0, 1024)], bytes(512)),
    "more data than segments": in_data(4096, [(0, 512)], bytes(1024)),
    "data of no segment": in_data(4096, [], bytes(1)),
    "a huge file": in_data((1 << 41) + 1, [(0, 512)], bytes(512)),
    "a huge segment": in_data(1 << 40, [(0, 10**18)], bytes(512)),
    "a number without bound": in_data(1 << 40, [(0, 10**19)], bytes(512)),
    "too many segments": in_data(0, [], b"", text=b"%d\n" % MANY + bytes(512)),
    "too many segments in a record": in_one_record(0, [(0, 0)] * MANY, b""),
    "too many segments in blocks": in_header(MANY, [(0, 0)] * (MANY + 21), b""),
    "a map without end": in_data(0, [], b"", text=b"65536\n" + b"0" * (MAX_MAP_BYTES + 512)),
    "a map that is no number": in_data(512, [], b"", text=b"one\n0\n512\n"),
    "a signed number": in_data(512, [], b"", text=b"1\n+0\n512\n"),
    "a map larger than its entry": with_records(
        record("GNU.sparse.major", 1) + record("GNU.sparse.minor", 0) + record("GNU.sparse.realsize", 512), 5
    )
    + payload(b"1\n0\n512\n"),
    "a cut-off map": in_data(512, [], b"", text=b"1\n0\n")[:-512],
    "another count than segments": in_one_record(4096, [(0, 512)], bytes(512), count=2),
    "pairs out of order": sparse(size=512, numblocks=1, numbytes=512, offset=0),
    "pairs and a map": sparse(size=512, numblocks=1, offset=0, numbytes=512, map="0,512"),
    "half a pair": sparse(size=512, numblocks=1, offset=0),
    "a comma in a pair": sparse(size=1024, numblocks=2, offset="0,1", numbytes="512,512"),
    "no size": sparse(numblocks=1, map="0,512"),
    "no map": sparse(size=512),
    "an unknown version": sparse(major=2, minor=0, realsize=512),
    "half a version": sparse(minor=0, realsize=512, numblocks=1, map="0,512"),
    "a directory": directory_with(with_records(record("GNU.sparse.size", 0), 0)),
    "an old one with records": header(20, b"x")
    + payload(record("GNU.sparse.size", 5))
    + in_header(5, [(0, 5)], b"12345"),
    "an old one of another archiver": in_header(5, [(0, 5)], b"12345", magic=b"ustar\x0000"),
    "a global map": header(20, b"g") + payload(record("GNU.sparse.size", 5)) + header(0),
    "a cut-off old map": in_header(9 << 12, [(n << 12, 1) for n in range(9)], bytes(9))[:512],
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_a_map_is_refused(data):
    with pytest.raises(TarError):
        scan(data + END)


@pytest.mark.parametrize("version", sorted(FORMATS))
def test_the_same_map_without_the_lie_is_accepted(version):
    assert scan(FORMATS[version](4096, [(0, 1024), (2048, 512)], bytes(1536)) + END)


@settings(max_examples=200)
@given(sparse_files(), st.sampled_from([in_pairs, in_one_record, in_data, in_header]), st.data())
def test_damaged_maps_give_entries_or_the_declared_error(file, write, data):
    damaged = bytearray(write(*file) + END)
    for position in data.draw(st.lists(st.integers(0, min(len(damaged) - 1, 4000)), max_size=3)):
        damaged[position] = data.draw(st.sampled_from(b"0123456789\n,=\0\xff"))
    for start in range(0, len(damaged), 512):
        block = damaged[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            damaged[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(TarError):
        scan(bytes(damaged))
