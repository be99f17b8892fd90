"""The few facts of an ELF file that decide whether it starts: for which machine, and with which loader."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

MAGIC: Final = b"\x7fELF"
# What is read of a file: headers come first, and name the loader within this much.
HEAD_BYTES: Final = 64 << 10
_IDENT_BYTES: Final = 16
_CLASS_AT, _DATA_AT = 4, 5
_CLASS_64: Final = 2
_LITTLE_ENDIAN: Final = 1
_MACHINE: Final = struct.Struct("<16sHH")
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")
_PT_DYNAMIC, _PT_INTERP = 2, 3
_MAX_PROGRAMS: Final = 256
_MAX_PATH_BYTES: Final = 4096
# Machine numbers (System V ABI), in the words of image platforms.
_ARCHITECTURES: Final = {3: "386", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}


@dataclass(frozen=True, slots=True)
class ElfHead:
    """An architecture, and the loader's path; ``""`` for a static program."""

    architecture: str
    loader: str
    dynamic: bool

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the beginning of a file; raise ``ValueError`` if it is no ELF file that can be understood."""
        if data[:4] != MAGIC or len(data) < _MACHINE.size:
            raise ValueError("not an ELF file")
        machine = _MACHINE.unpack_from(data)[2]
        architecture = _ARCHITECTURES.get(machine, f"machine {machine}")
        if data[_CLASS_AT] != _CLASS_64 or data[_DATA_AT] != _LITTLE_ENDIAN:
            # Of another machine, then; what it would load does not matter.
            return cls(architecture, "", dynamic=False)
        segments = _segments(data)
        loader = next((_text(data, offset) for kind, offset in segments if kind == _PT_INTERP), "")
        return cls(architecture, loader, dynamic=any(kind == _PT_DYNAMIC for kind, _ in segments))


def _segments(data: bytes) -> list[tuple[int, int]]:
    try:
        header = _HEADER.unpack_from(data)
        offset, size, count = header[5], header[9], header[10]
        if size != _PROGRAM.size or count > _MAX_PROGRAMS or offset > len(data):
            raise ValueError("strange program headers")
        found = [_PROGRAM.unpack_from(data, offset + number * size) for number in range(count)]
    except struct.error as error:
        raise ValueError("the program headers lie outside of the file") from error
    return [(fields[0], fields[2]) for fields in found]


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _MAX_PATH_BYTES) if offset < len(data) else -1
    if end < 0:
        raise ValueError("the loader's name does not end")
    return data[offset:end].decode("utf-8", "replace")
