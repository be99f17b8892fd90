"""The closure holds what a loader will ask for, and says what is missing."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.node.bundles.libraries import LibraryClosure

PYTHON = Path(sys.executable).resolve()


def elf_that_needs(name, search_path=""):
    """Write the smallest file that a loader would understand."""
    strings = b"\0" + name.encode() + b"\0" + search_path.encode() + b"\0"
    start, count = 64 + 2 * 56, 4
    table = start + count * 16
    dynamic = struct.pack("<qQqQqQqQ", 1, 1, 5, table, 29, len(name) + 2, 0, 0)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    size = table + len(strings)
    programs = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    programs += struct.pack("<IIQQQQQQ", 2, 4, start, start, start, len(dynamic), len(dynamic), 8)
    return header + programs + dynamic + strings


def test_the_interpreters_libraries_are_found_with_theirs():
    closure = LibraryClosure()
    closure.add(PYTHON, PYTHON.read_bytes())
    libraries = closure.libraries()
    assert "libc.so.6" in libraries
    assert not any(name.startswith("ld-linux") for name in libraries)
    assert all(path.is_file() for path in libraries.values())


def test_a_library_beside_the_file_is_found_through_its_search_path(tmp_path):
    library = tmp_path / "libs/libown.so.1"
    library.parent.mkdir()
    library.write_bytes(elf_that_needs("libc.so.6"))
    closure = LibraryClosure()
    closure.add(tmp_path / "program", elf_that_needs("libown.so.1", "$ORIGIN/libs"))
    assert closure.libraries()["libown.so.1"] == library
    assert "libc.so.6" in closure.libraries()


def test_a_missing_library_is_named(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        LibraryClosure().add(tmp_path / "program", elf_that_needs("libnowhere.so.9"))
    assert caught.value.code == "bundle-library-missing"
    assert "libnowhere.so.9" in caught.value.detail


def test_a_damaged_file_is_named(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        LibraryClosure().add(tmp_path / "program", b"\x7fELF damaged")
    assert caught.value.code == "bundle-elf-invalid"


def test_other_files_need_nothing_and_absent_ones_are_skipped(tmp_path):
    closure = LibraryClosure()
    closure.add(tmp_path / "x.py", b"print()")
    closure.add_if_present("libnowhere.so.9")
    assert closure.libraries() == {}
