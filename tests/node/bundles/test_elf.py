"""ELF files are read with bounds, and lose what would lead a loader elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enclave_cc.node.bundles.elf import ElfError, for_loading, is_elf, read_elf

PYTHON = Path(sys.executable).resolve()


def test_a_program_names_its_loader_and_libraries():
    elf = read_elf(PYTHON.read_bytes())
    assert elf.interpreter.startswith("/")
    assert any(name.startswith("libc.") for name in elf.needed)


def test_what_is_left_for_loading_has_no_search_paths_and_still_runs(tmp_path):
    data = PYTHON.read_bytes()
    stripped = for_loading(data)
    assert len(stripped) <= len(data)
    assert read_elf(stripped).search_paths == ()
    assert read_elf(stripped).needed == read_elf(data).needed
    program = tmp_path / "true"
    program.write_bytes(for_loading(Path("/bin/true").read_bytes()))
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"#!/bin/sh\n" + bytes(100),
        b"\x7fELF\x01\x01" + bytes(100),
        b"\x7fELF\x02\x02" + bytes(100),
        PYTHON.read_bytes()[:100],
        PYTHON.read_bytes()[:1000],
    ],
    ids=["empty", "magic", "script", "32-bit", "big-endian", "header", "cut"],
)
def test_what_is_no_whole_elf_file_is_refused(data):
    with pytest.raises(ElfError):
        read_elf(data)


def test_only_the_magic_number_makes_an_elf_file():
    assert is_elf(PYTHON.read_bytes())
    assert not is_elf(b"#!/bin/sh")


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    for function in (read_elf, for_loading):
        try:
            function(data)
        except ElfError:
            continue


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=20))
@example([(39, 128)])  # program headers beyond 63 bits
def test_no_damage_raises_anything_but_the_declared_error(damage):
    data = bytearray(PYTHON.read_bytes()[:65536])
    for offset, value in damage:
        data[offset] = value
    for function in (read_elf, for_loading):
        try:
            function(bytes(data))
        except ElfError:
            continue
