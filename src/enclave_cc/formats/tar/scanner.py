"""
Find the entries of a tar stream while it flows past, in pieces of any size.

The scanner sees every byte once and keeps only headers, so its memory does not depend on the
archive; of sparse files it also keeps the bounded rest that no file system could point at. It is strict
where readers of tar differ, because the entries it reports decide what a workload runs. It must not
interpret paths: that is the tree's task.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.tar import pax, sparse_map
from enclave_cc.formats.tar.chunked import MAX_SPARSE_BYTES, ChunkedFile
from enclave_cc.formats.tar.entry import (
    MAX_OWNER,
    MAX_PATH_BYTES,
    NO_XATTRS,
    EntryKind,
    TarEntry,
    TarError,
)
from enclave_cc.formats.tar.extensions import Extensions
from enclave_cc.formats.tar.header import BLOCK, METADATA, NO_DEVICE, RawHeader, parse_header
from enclave_cc.formats.tar.sparse_map import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enclave_cc.formats.tar.sparse_map import MapReader

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
    b"S": EntryKind.FILE,
    b"1": EntryKind.HARD_LINK,
    b"2": EntryKind.SYMBOLIC_LINK,
    b"3": EntryKind.CHARACTER_DEVICE,
    b"4": EntryKind.BLOCK_DEVICE,
    b"5": EntryKind.DIRECTORY,
    b"6": EntryKind.FIFO,
}
_OLD_SPARSE: Final = b"S"
_LINKS: Final = (EntryKind.HARD_LINK, EntryKind.SYMBOLIC_LINK)
_ZEROS: Final = bytes(BLOCK)
_FIRST_SECOND: Final = -(1 << 63)
_LAST_SECOND: Final = (1 << 63) - 1
# The kernel's dev_t: 12 bits major, 20 bits minor.
_MAX_MAJOR: Final = (1 << 12) - 1
_MAX_MINOR: Final = (1 << 20) - 1
# More than any stream has.
_ENDLESS_BYTES: Final = 1 << 63


class TarScanner:
    """Feed it the stream in order, then ``close()``; any bytes give entries or ``TarError``."""

    def __init__(
        self,
        *,
        max_headers: int = MAX_HEADERS,
        max_path_bytes: int = MAX_PATH_BYTES,
        max_sparse_bytes: int = MAX_SPARSE_BYTES,
    ) -> None:
        self._headers_left = max_headers
        self._max_path_bytes = max_path_bytes
        self._sparse_left = max_sparse_bytes
        self._position = 0  # of the next byte to be fed
        self._next = 0  # where the record begins that is wanted next
        self._wanted = BLOCK  # how many bytes of it
        self._partial = bytearray()
        # Who takes the next record, if it is not the next header.
        self._rest: Callable[[bytes], TarEntry | None] | None = None
        self._extensions = Extensions()
        self._copying: list[tuple[ChunkedFile, int]] = []
        self._zero_blocks = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[TarEntry]:
        """Look at the next piece of the stream; consume the iterator before feeding more."""
        base = self._position
        end = base + len(data)
        view = memoryview(data)
        while self._zero_blocks < 2:  # noqa: PLR2004 - two zero blocks end an archive
            start = self._next
            stop = start + self._wanted
            if stop > end:
                if start < end:
                    self._partial += view[max(start - base, 0) :]
                break
            if start >= base:
                record = bytes(view[start - base : stop - base])
            else:
                record = bytes(self._partial + view[: stop - base])
                self._partial.clear()
            self._next = stop
            entry = self._take_header(record) if self._rest is None else self._rest(record)
            if entry is not None:
                yield entry
        if self._copying:
            self._copying = [(file, at) for file, at in self._copying if file.copy(data, base - at)]
        self._position = end

    @property
    def idle_bytes(self) -> int:
        """Say how many of the next bytes nobody looks at: contents of files, and what follows the end."""
        if self._zero_blocks == 2:  # noqa: PLR2004 - two zero blocks end an archive
            return _ENDLESS_BYTES
        return 0 if self._copying else max(0, self._next - self._position)

    def skip(self, size_bytes: int) -> None:
        """Let bytes go by unseen, at most ``idle_bytes`` of them."""
        if size_bytes > self.idle_bytes:
            raise ValueError("these bytes are wanted")
        self._position += size_bytes

    def close(self) -> None:
        """Refuse a stream that ended in the middle of something."""
        if self._zero_blocks:
            return
        is_cut = self._partial or self._rest is not None or self._position < self._next
        if is_cut or self._extensions.pending:
            raise TarError("the archive is cut off")

    def _take_header(self, record: bytes) -> TarEntry | None:
        if record == _ZEROS:
            if self._extensions.pending:
                raise TarError("an extended header belongs to no entry")
            self._zero_blocks += 1
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
        extensions = self._extensions
        if not extensions.pending and header.typeflag != _OLD_SPARSE:
            return self._plain_entry(header)
        self._extensions = Extensions()
        return self._extended_entry(header, extensions, record)

    def _expect_metadata(self, header: RawHeader) -> None:
        if not 0 <= header.size <= MAX_METADATA_BYTES:
            raise TarError("an extended header is too large")
        if header.size:
            self._wanted = _round_up(header.size)
            self._rest = partial(self._take_metadata, header)

    def _take_metadata(self, header: RawHeader, record: bytes) -> None:
        self._rest = None
        self._wanted = BLOCK
        self._extensions.add(header.typeflag, record[: header.size])

    def _plain_entry(self, header: RawHeader) -> TarEntry:
        """Make an entry of a header that nothing came before; most are like this."""
        typeflag, size, name, mode, uid, gid, mtime, link_name, device = header
        kind = _kind(typeflag, name, size)
        # Other kinds carry no data, whatever their size field says.
        size = size if kind is EntryKind.FILE else 0
        target = link_name if kind in _LINKS else b""
        entry = TarEntry(
            name, kind, self._next, size, mode & 0o7777, uid, gid, mtime, 0, target, device, NO_XATTRS
        )
        self._check(entry)
        self._next += (size + BLOCK - 1) & -BLOCK
        return entry

    def _extended_entry(self, header: RawHeader, extensions: Extensions, record: bytes) -> TarEntry | None:
        records = extensions.records
        path = extensions.path(header.name)
        target = extensions.target(header.link_name)
        stored = pax.decimal(records[b"size"]) if records.get(b"size") else header.size
        kind = _kind(header.typeflag, path, stored)
        stored = stored if kind is EntryKind.FILE else 0
        mtime_s, mtime_ns = pax.time(records[b"mtime"]) if records.get(b"mtime") else (header.mtime, 0)
        uid = pax.decimal(records[b"uid"]) if records.get(b"uid") else header.uid
        gid = pax.decimal(records[b"gid"]) if records.get(b"gid") else header.gid
        target = target if kind in _LINKS else b""
        attributes = (header.mode & 0o7777, uid, gid, mtime_s, mtime_ns, target, header.device)
        entry = TarEntry(path, kind, self._next, stored, *attributes, extensions.xattrs)
        self._check(entry)
        if header.typeflag == _OLD_SPARSE or extensions.is_sparse:
            return self._sparse_entry(entry, header.typeflag, extensions, record)
        self._next += _round_up(stored)
        return entry

    def _sparse_entry(
        self, entry: TarEntry, typeflag: bytes, extensions: Extensions, record: bytes
    ) -> TarEntry | None:
        """Read the map of a sparse file, of which ``entry`` still has the stored size, or wait for it."""
        stored = entry.size
        if entry.kind is not EntryKind.FILE:
            raise TarError("a sparse file is none")
        if typeflag == _OLD_SPARSE:
            if extensions.is_sparse:
                raise TarError("a sparse file has two maps")
            old = sparse_map.OldMap(record)
            entry = entry._replace(size=old.size)
            if old.is_complete:
                return self._mapped(entry, old.segments, stored)
            self._rest = partial(self._take_map, entry, stored, old)
            return None
        records = extensions.records
        entry = entry._replace(size=sparse_map.real_size(records))
        if sparse_map.map_is_in_data(records):
            self._rest = partial(self._take_map, entry, stored, sparse_map.MapInData())
            return None
        return self._mapped(entry, sparse_map.map_in_records(records), stored)

    def _take_map(self, entry: TarEntry, stored: int, reader: MapReader, record: bytes) -> TarEntry | None:
        segments = reader.add(record)
        if reader.stored_bytes > stored:
            raise TarError("a sparse map is larger than its entry")
        if segments is None:
            return None
        self._rest = None
        return self._mapped(entry, segments, stored - reader.stored_bytes)

    def _mapped(self, entry: TarEntry, segments: Sequence[Segment], stored: int) -> TarEntry:
        """Complete a sparse file, whose data begin here."""
        self._check(entry)
        kept = sparse_map.check(segments, size=entry.size, stored=stored)
        chunks = None
        if kept != (Segment(0, entry.size),) and entry.size:
            chunks = ChunkedFile(entry.size, kept, max_bytes=self._sparse_left)
            self._sparse_left -= chunks.cost_bytes
            self._copying.append((chunks, self._next))
        entry = entry._replace(data_offset=self._next, chunks=chunks)
        self._next += _round_up(stored)
        return entry

    def _check(self, entry: TarEntry) -> None:
        path, kind, _offset, size, _mode, uid, gid, mtime_s, _ns, target, device, _xattrs, _chunks = entry
        longest = self._max_path_bytes
        if len(path) > longest or len(target) > longest or b"\0" in path or b"\0" in target:
            raise TarError("a path is out of bounds")
        if not path or (not target and kind in _LINKS):
            raise TarError("an entry has an empty path or target")
        if not 0 <= size <= MAX_FILE_BYTES:
            raise TarError("a file's size is out of bounds")
        if not (0 <= uid <= MAX_OWNER and 0 <= gid <= MAX_OWNER):
            raise TarError("an owner is out of bounds")
        if not _FIRST_SECOND <= mtime_s <= _LAST_SECOND:
            raise TarError("a time is out of bounds")
        if device is not NO_DEVICE and not (0 <= device[0] <= _MAX_MAJOR and 0 <= device[1] <= _MAX_MINOR):
            raise TarError("a device number is out of bounds")


def _round_up(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def _kind(typeflag: bytes, path: bytes, size: int) -> EntryKind:
    kind = _KINDS.get(typeflag)
    if kind is None:
        raise TarError("an entry has an unknown type")
    # Archives older than POSIX mark directories by a trailing slash only.
    if typeflag == b"\0" and path.endswith(b"/"):
        if size:
            raise TarError("a directory has data")
        return EntryKind.DIRECTORY
    return kind
