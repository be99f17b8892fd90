"""Archives with sparse files, written by hand in each of the four formats."""

from __future__ import annotations

END = bytes(1024)


def octal(value: int) -> bytes:
    return b"%011o\0" % value


def payload(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def summed(block: bytes) -> bytes:
    assert len(block) == 512
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def header(size: int, typeflag: bytes = b"0", *, magic: bytes = b"ustar\x0000", tail: bytes = b"") -> bytes:
    block = b"file".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + octal(size) + octal(0) + bytes(8)
    block += typeflag + bytes(100) + magic
    return summed(block.ljust(345, b"\0") + tail.ljust(167, b"\0"))


def record(key: str, value: object) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return b"%d" % length + text


def with_records(records: bytes, size: int) -> bytes:
    return header(len(records), b"x") + payload(records) + header(size)


def in_pairs(size: int, segments, data: bytes) -> bytes:
    """Version 0.0."""
    records = record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", len(segments))
    for offset, length in segments:
        records += record("GNU.sparse.offset", offset) + record("GNU.sparse.numbytes", length)
    return with_records(records, len(data)) + payload(data)


def in_one_record(size: int, segments, data: bytes, *, count: int | None = None) -> bytes:
    """Version 0.1."""
    numbers = ",".join(f"{offset},{length}" for offset, length in segments)
    records = record("GNU.sparse.size", size)
    records += record("GNU.sparse.numblocks", len(segments) if count is None else count)
    records += record("GNU.sparse.name", "real") + record("GNU.sparse.map", numbers)
    return with_records(records, len(data)) + payload(data)


def in_data(size: int, segments, data: bytes, *, text: bytes | None = None) -> bytes:
    """Version 1.0."""
    records = record("GNU.sparse.major", 1) + record("GNU.sparse.minor", 0)
    records += record("GNU.sparse.name", "real") + record("GNU.sparse.realsize", size)
    if text is None:
        lines = [len(segments), *(number for segment in segments for number in segment)]
        text = "".join(f"{number}\n" for number in lines).encode()
    stored = payload(text) + data
    return with_records(records, len(stored)) + payload(stored)


def in_header(size: int, segments, data: bytes, *, magic: bytes = b"ustar  \0") -> bytes:
    """The old format of GNU tar."""
    pairs = [octal(offset) + octal(length) for offset, length in segments]
    head, rest = b"".join(pairs[:4]), pairs[4:]
    tail = bytes(41) + head.ljust(96, b"\0") + bytes([bool(rest)]) + octal(size)
    blocks = header(len(data), b"S", magic=magic, tail=tail)
    while rest:
        part, rest = rest[:21], rest[21:]
        blocks += (b"".join(part).ljust(504, b"\0") + bytes([bool(rest)])).ljust(512, b"\0")
    return blocks + payload(data)


FORMATS = {"0.0": in_pairs, "0.1": in_one_record, "1.0": in_data, "old": in_header}
