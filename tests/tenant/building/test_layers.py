import gzip
import io
import os
import tarfile

import pytest
import zstandard

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.building.layers import LayerBuilder, compress


def _members(builder):
    with tarfile.open(fileobj=io.BytesIO(builder.tar())) as archive:
        return {member.name: member for member in archive}


def test_every_kind_of_entry_stands_in_the_tar(tmp_path):
    (tmp_path / "source").write_bytes(b"from a file")
    members = _members(
        LayerBuilder()
        .directory("srv", mode=0o750, uid=1, gid=2)
        .file("/srv/a", b"content", mode=0o600)
        .file("srv/b", tmp_path / "source")
        .symlink("srv/link", "../a")
        .hardlink("srv/hard", "/srv/a")
        .whiteout("etc/passwd")
        .opaque("var/cache")
    )
    assert list(members) == [
        "srv",
        "srv/a",
        "srv/b",
        "srv/link",
        "srv/hard",
        "etc/.wh.passwd",
        "var/cache/.wh..wh..opq",
    ]
    assert (members["srv"].mode, members["srv"].uid, members["srv"].gid) == (0o750, 1, 2)
    assert members["srv/link"].linkname == "../a"
    assert members["srv/hard"].linkname == "srv/a"


def test_names_that_need_more_than_a_header_are_kept():
    name = "/".join(["ünïcode" * 10] * 4)
    assert list(_members(LayerBuilder().file(name, b""))) == [name]


def _tree(directory):
    (directory / "b").mkdir(parents=True)
    (directory / "b" / "c").write_bytes(b"c")
    (directory / "a").write_bytes(b"a")
    (directory / "l").symlink_to("a")
    return LayerBuilder().tree(directory, at="app").tar()


def test_the_same_tree_gives_the_same_bytes_anywhere_and_at_any_time(tmp_path):
    first = _tree(tmp_path / "one")
    second_directory = tmp_path / "two"
    second = _tree(second_directory)
    os.utime(second_directory / "a", (1, 1))
    assert first == second == LayerBuilder().tree(second_directory, at="app").tar()


@pytest.mark.parametrize("compression", Compression)
def test_compressing_leaves_no_trace_of_the_time(compression):
    outputs = []
    for _ in range(2):
        out = io.BytesIO()
        compress(io.BytesIO(b"content" * 1000), out, compression)
        outputs.append(out.getvalue())
    assert outputs[0] == outputs[1]
    unpack = {
        Compression.NONE: bytes,
        Compression.GZIP: gzip.decompress,
        Compression.ZSTD: lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    assert unpack[compression](outputs[0]) == b"content" * 1000


@pytest.mark.parametrize("path", ["", "/", ".", "..", "../etc/passwd", "a/../../b"])
def test_a_path_outside_of_the_layer_is_refused(path):
    with pytest.raises(InvalidInputError) as caught:
        LayerBuilder().file(path, b"")
    assert caught.value.code == "image-layer-invalid"


def test_a_path_that_is_described_twice_is_refused():
    with pytest.raises(InvalidInputError):
        LayerBuilder().file("a", b"").file("/a", b"")


def test_a_device_or_pipe_in_a_tree_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError):
        LayerBuilder().tree(tmp_path)
