"""Debian packages are read without dpkg, and broken ones are refused with one error."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.demo.images import deb_archive
from enclave_cc.demo.images.deb_archive import DebError, data_tar, files, members


def _tar(names=("./usr/bin/server", "./etc/conf")):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"text"))
    return buffer.getvalue()


def _ar(**contents):
    out = bytearray(b"!<arch>\n")
    for name, content in contents.items():
        header = f"{name.replace('__', '.'):<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}"
        out += header.encode() + b"`\n" + content + b"\n" * (len(content) % 2)
    return bytes(out)


def _deb(member, content):
    return _ar(**{"debian-binary": b"2.0\n", "control__tar__xz": b"odd", member: content})


@pytest.mark.parametrize(
    ("member", "pack"),
    [
        ("data__tar", bytes),
        ("data__tar__xz", lzma.compress),
        ("data__tar__gz", gzip.compress),
        ("data__tar__zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_every_compression_of_debian_is_read(member, pack):
    found = [(entry.name, content) for entry, content in files(_deb(member, pack(_tar())))]
    assert found == [("usr/bin/server", b"text"), ("etc/conf", b"text")]


def test_members_of_odd_length_are_padded():
    assert [name for name, _ in members(_ar(one=b"x", two=b"yy"))] == ["one", "two"]


def test_a_name_that_leaves_the_package_is_refused():
    with pytest.raises(DebError, match="leaves"):
        list(files(_deb("data__tar", _tar(["../../etc/passwd"]))))


def test_a_package_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(deb_archive, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(DebError, match="more than we accept"):
        data_tar(_deb("data__tar__xz", lzma.compress(bytes(2000))))


@pytest.mark.parametrize("cut", [3, 20, 67, 70, 150])
def test_a_package_that_is_cut_off_is_refused(cut):
    with pytest.raises(DebError):
        data_tar(_deb("data__tar__gz", gzip.compress(_tar()))[:cut])


@pytest.mark.parametrize("member", ["data__tar__xz", "data__tar__gz", "data__tar__zst", "data__tar"])
@given(content=st.binary(max_size=300))
def test_any_bytes_in_a_member_give_files_or_the_declared_error(member, content):
    try:
        list(files(_deb(member, content)))
    except DebError:
        return


@given(data=st.binary(max_size=300))
def test_any_bytes_give_members_or_the_declared_error(data):
    try:
        list(members(b"!<arch>\n" + data))
    except DebError:
        return
