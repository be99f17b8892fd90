"""
The few facts of an ELF file that decide which other files it needs: interpreter, libraries, search paths.

Everything is read with bounds, because bundles are built from whatever lies on a machine. What a loader must
not see is also removed here: a path compiled into a library would make it leave the measured bundle.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"\x7fELF"
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<qQ")
# Where the header names the section table: its offset (e_shoff), then entry size, count and string index.
_SECTION_TABLE_OFFSET: Final = struct.Struct("<Q")
_SECTION_TABLE_OFFSET_AT: Final = 40
_SECTION_TABLE_SIZES: Final = struct.Struct("<HHH")
_SECTION_TABLE_SIZES_AT: Final = 58
_CLASS_64: Final = 2
_LITTLE_ENDIAN: Final = 1
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
# A tag in the range of operating systems that no loader gives a meaning: such entries are skipped.
_DT_IGNORED: Final = 0x6000000F
# Real files have a dozen segments and a few dozen entries.
_MAX_PROGRAMS: Final = 256
_MAX_DYNAMIC: Final = 4096
_MAX_TEXT_BYTES: Final = 4096


class ElfError(ValueError):
    """The bytes are no ELF file of this machine's kind."""


@dataclass(frozen=True, slots=True)
class ElfFile:
    """What a loader would look for."""

    interpreter: str
    needed: tuple[str, ...]
    search_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int
    file_size: int


def is_elf(data: bytes) -> bool:
    """Tell by the magic number."""
    return data[:4] == MAGIC


def read_elf(data: bytes) -> ElfFile:
    """Read a 64-bit little-endian file; raise ``ElfError`` for anything else."""
    segments = _segments(data)
    interpreter = next((_text(data, part.offset) for part in segments if part.kind == _PT_INTERP), "")
    entries = [(tag, value) for _, tag, value in _dynamic(data, segments)]
    tables = [value for tag, value in entries if tag == _DT_STRTAB]
    if not tables:
        return ElfFile(interpreter, (), ())
    strings = _file_offset(segments, tables[0])
    texts = {
        wanted: tuple(_text(data, strings + value) for tag, value in entries if tag == wanted)
        for wanted in (_DT_NEEDED, _DT_RPATH, _DT_RUNPATH)
    }
    paths = [part for text in (*texts[_DT_RPATH], *texts[_DT_RUNPATH]) for part in text.split(":") if part]
    return ElfFile(interpreter, texts[_DT_NEEDED], tuple(paths))


def for_loading(data: bytes) -> bytes:
    """
    Return the file as a loader needs it: without library paths, debug information and section table.

    Loaders work from segments; sections only serve linkers and debuggers, and lie behind the last segment.
    """
    segments = _segments(data)
    edited = bytearray(
        data[: max(_loaded_end(data), *(part.offset + part.file_size for part in segments), 0)]
    )
    for offset, tag, value in _dynamic(data, segments):
        if tag in {_DT_RPATH, _DT_RUNPATH} and offset + _DYNAMIC.size <= len(edited):
            _DYNAMIC.pack_into(edited, offset, _DT_IGNORED, value)
    _SECTION_TABLE_OFFSET.pack_into(edited, _SECTION_TABLE_OFFSET_AT, 0)
    _SECTION_TABLE_SIZES.pack_into(edited, _SECTION_TABLE_SIZES_AT, 0, 0, 0)
    return bytes(edited)


def _loaded_end(data: bytes) -> int:
    """Return where header and program headers end, which must stay in any case."""
    header = _HEADER.unpack_from(data)
    offset, size, count = header[5], header[9], header[10]
    return max(_HEADER.size, int(offset + size * count))


def _segments(data: bytes) -> list[_Segment]:
    try:
        header = _HEADER.unpack_from(data)
    except struct.error as error:
        raise ElfError("too short") from error
    ident, offset, size, count = header[0], header[5], header[9], header[10]
    if ident[:4] != MAGIC or ident[4] != _CLASS_64 or ident[5] != _LITTLE_ENDIAN:
        raise ElfError("not a 64-bit little-endian ELF file")
    if size != _PROGRAM.size or count > _MAX_PROGRAMS:
        raise ElfError("strange program headers")
    return [_segment(data, offset + index * size) for index in range(count)]


def _segment(data: bytes, offset: int) -> _Segment:
    fields = _unpack(_PROGRAM, data, offset, "a program header")
    kind, _, file_offset, address, _, file_size, size, _ = fields
    return _Segment(kind, file_offset, address, size, file_size)


def _dynamic(data: bytes, segments: list[_Segment]) -> Iterator[tuple[int, int, int]]:
    """Yield file offset, tag and value of each dynamic entry."""
    for segment in segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        for index in range(min(segment.file_size // _DYNAMIC.size, _MAX_DYNAMIC)):
            offset = segment.offset + index * _DYNAMIC.size
            tag, value = _unpack(_DYNAMIC, data, offset, "a dynamic entry")
            if tag == _DT_NULL:
                break
            yield offset, tag, value


def _unpack(layout: struct.Struct, data: bytes, offset: int, what: str) -> tuple[int, ...]:
    # Compared here, because an offset beyond 63 bits is another exception of the struct module.
    if offset + layout.size > len(data):
        raise ElfError(f"{what} lies outside of the file")
    return layout.unpack_from(data, offset)


def _file_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return segment.offset + address - segment.address
    raise ElfError("an address lies in no segment")


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _MAX_TEXT_BYTES)
    if end < 0:
        raise ElfError("a text does not end")
    try:
        return data[offset:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ElfError("a text is not UTF-8") from error
