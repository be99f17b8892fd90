"""
Find the entries of a tar stream while it flows past, in pieces of any size.

The scanner sees every byte once and keeps only headers, so its memory does not depend on the
archive. It is strict where readers of tar differ, because the entries it reports decide what a
workload runs. It must not interpret paths: that is the tree's task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.formats.tar import pax
from enclave_cc.formats.tar.entry import MAX_OWNER, MAX_PATH_BYTES, EntryKind, TarEntry, TarError
from enclave_cc.formats.tar.header import BLOCK, METADATA, RawHeader, parse_header, text

if TYPE_CHECKING:
    from collections.abc import Iterator

# One extended header or long name; the tar reader of the container world has the same limit.
MAX_METADATA_BYTES: Final = 1 << 20
# All headers of a layer, extended ones included; the largest public images have a few hundred thousand files.
MAX_HEADERS: Final = 2_000_000
# Larger files could not be addressed by the 32-bit block numbers of the sealed image (2 TiB in all).
MAX_FILE_BYTES: Final = 1 << 41

_KINDS: Final = {
    b"\0": EntryKind.FILE,
    b"0": EntryKind.FILE,
    b"7": EntryKind.FILE,
    b"1": EntryKind.HARD_LINK,
    b"2": EntryKind.SYMBOLIC_LINK,
    b"3": EntryKind.CHARACTER_DEVICE,
    b"4": EntryKind.BLOCK_DEVICE,
    b"5": EntryKind.DIRECTORY,
    b"6": EntryKind.FIFO,
}
_LINKS: Final = (EntryKind.HARD_LINK, EntryKind.SYMBOLIC_LINK)
_DEVICES: Final = (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE)
_ZEROS: Final = bytes(BLOCK)
_MTIME_RANGE: Final = range(-(1 << 63), 1 << 63)
# The kernel's dev_t: 12 bits major, 20 bits minor.
_MAX_MAJOR: Final = (1 << 12) - 1
_MAX_MINOR: Final = (1 << 20) - 1


class TarScanner:
    """Feed it the stream in order, then ``close()``; any bytes give entries or ``TarError``."""

    def __init__(self, *, max_headers: int = MAX_HEADERS) -> None:
        self._headers_left = max_headers
        self._position = 0  # of the next byte to be fed
        self._next = 0  # where the record begins that is wanted next
        self._wanted = BLOCK  # how many bytes of it
        self._partial = bytearray()
        self._metadata: RawHeader | None = None  # whose payload is wanted next
        self._records: dict[bytes, bytes] = {}
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._zero_blocks = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[TarEntry]:
        """Look at the next piece of the stream; consume the iterator before feeding more."""
        base = self._position
        end = base + len(data)
        while self._zero_blocks < 2:  # noqa: PLR2004 - two zero blocks end an archive
            start = max(self._next + len(self._partial) - base, 0)
            stop = self._next + self._wanted
            if stop > end:
                if base + start < end:
                    self._partial += data[start:]
                break
            record = bytes(data[start : stop - base])
            if self._partial:
                record = bytes(self._partial) + record
                self._partial.clear()
            entry = self._take(record)
            if entry is not None:
                yield entry
        self._position = end

    def close(self) -> None:
        """Refuse a stream that ended in the middle of something."""
        if self._zero_blocks:
            return
        if self._partial or self._metadata is not None or self._position < self._next or self._pending():
            raise TarError("the archive is cut off")

    def _take(self, record: bytes) -> TarEntry | None:
        if self._metadata is not None:
            self._take_metadata(self._metadata, record)
            return None
        if record == _ZEROS:
            if self._pending():
                raise TarError("an extended header belongs to no entry")
            self._zero_blocks += 1
            self._next += BLOCK
            return None
        if self._zero_blocks:
            raise TarError("the archive goes on after a zero block")
        self._headers_left -= 1
        if self._headers_left < 0:
            raise TarError("the archive has too many entries")
        header = parse_header(record)
        if header.typeflag in METADATA:
            self._expect_metadata(header)
            return None
        return self._entry(header)

    def _pending(self) -> bool:
        return bool(self._records) or self._long_name is not None or self._long_link is not None

    def _expect_metadata(self, header: RawHeader) -> None:
        if not 0 <= header.size <= MAX_METADATA_BYTES:
            raise TarError("an extended header is too large")
        self._next += BLOCK
        if header.size:
            self._metadata = header
            self._wanted = _round_up(header.size)

    def _take_metadata(self, header: RawHeader, record: bytes) -> None:
        self._metadata = None
        self._next += self._wanted
        self._wanted = BLOCK
        payload = record[: header.size]
        match header.typeflag:
            case b"x":
                if self._records:
                    raise TarError("an entry has two extended headers")
                self._records = pax.parse_records(payload)
            case b"g":
                pax.refuse_effective(pax.parse_records(payload))
            case b"L":
                self._long_name = text(payload)
            case _:
                self._long_link = text(payload)

    def _entry(self, header: RawHeader) -> TarEntry:
        records, self._records = self._records, {}
        path = _one_of(self._long_name, records.get(b"path"), header.name)
        target = _one_of(self._long_link, records.get(b"linkpath"), header.link_name)
        self._long_name = self._long_link = None
        size = pax.decimal(records[b"size"]) if records.get(b"size") else header.size
        kind = _kind(header.typeflag, path, size)
        mtime_s, mtime_ns = pax.time(records[b"mtime"]) if records.get(b"mtime") else (header.mtime, 0)
        entry = TarEntry(
            path=path,
            kind=kind,
            data_offset=self._next + BLOCK,
            # Other kinds carry no data, whatever their size field says.
            size=size if kind is EntryKind.FILE else 0,
            mode=header.mode & 0o7777,
            uid=pax.decimal(records[b"uid"]) if records.get(b"uid") else header.uid,
            gid=pax.decimal(records[b"gid"]) if records.get(b"gid") else header.gid,
            mtime_s=mtime_s,
            mtime_ns=mtime_ns,
            target=target if kind in _LINKS else b"",
            device=header.device if kind in _DEVICES else (0, 0),
            xattrs=pax.xattrs(records),
        )
        _check(entry)
        self._next += BLOCK + _round_up(entry.size)
        return entry


def _round_up(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def _one_of(gnu: bytes | None, posix: bytes | None, header: bytes) -> bytes:
    """Choose between the long forms; with both, readers of tar disagree about what is meant."""
    if gnu is not None and posix:
        raise TarError("an entry has two long names")
    return gnu or posix or header


def _kind(typeflag: bytes, path: bytes, size: int) -> EntryKind:
    if typeflag == b"S":
        raise TarError("sparse files are not supported: write the layer without them")
    kind = _KINDS.get(typeflag)
    if kind is None:
        raise TarError("an entry has an unknown type")
    # Archives older than POSIX mark directories by a trailing slash only.
    if typeflag == b"\0" and path.endswith(b"/"):
        if size:
            raise TarError("a directory has data")
        return EntryKind.DIRECTORY
    return kind


def _check(entry: TarEntry) -> None:
    for name in (entry.path, entry.target):
        if len(name) > MAX_PATH_BYTES or b"\0" in name:
            raise TarError("a path is out of bounds")
    if not entry.path or (entry.kind in _LINKS and not entry.target):
        raise TarError("an entry has an empty path or target")
    if not 0 <= entry.size <= MAX_FILE_BYTES:
        raise TarError("a file's size is out of bounds")
    if not (0 <= entry.uid <= MAX_OWNER and 0 <= entry.gid <= MAX_OWNER):
        raise TarError("an owner is out of bounds")
    if entry.mtime_s not in _MTIME_RANGE:
        raise TarError("a time is out of bounds")
    major, minor = entry.device
    if not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
        raise TarError("a device number is out of bounds")
