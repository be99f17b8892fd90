"""Files that look like programs to whoever reads their headers; nobody runs them."""

from __future__ import annotations

import struct


def elf(*, machine=62, loader="", bits=2):
    """The beginning of a program: one segment, perhaps with a loader's name behind it."""
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    name = loader.encode() + b"\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3 if loader else 1, 4, 120, 0, 0, len(name), len(name), 1)
    return header + segment + name
