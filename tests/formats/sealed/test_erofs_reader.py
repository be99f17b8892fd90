"""What was written is read back; anything else is a value or the declared error, and never another one."""

from __future__ import annotations

import contextlib
import stat
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.erofs_reader import MetadataError, MetadataReader
from enclave_cc.formats.sealed.erofs_records import parse_directory_block, parse_xattrs
from enclave_cc.formats.sealed.erofs_scan import has_xattrs
from enclave_cc.formats.sealed.node import Child, Node, directory_children
from enclave_cc.formats.tar.chunked import COPY, HOLE, ChunkedFile
from enclave_cc.formats.tar.sparse_map import Segment, check

BLOCK = 512
ROOT_OFFSET = 1152
DATA_BYTES = 1 << 31

names = st.binary(min_size=1, max_size=255).map(lambda name: name.translate(None, b"\0/") or b"n")
names = names.filter(lambda name: name not in (b".", b".."))
targets = st.binary(min_size=1, max_size=1200).map(lambda target: target.replace(b"\0", b"t"))
xattrs = st.dictionaries(
    st.sampled_from(
        [b"user.a", b"user.bcd", b"trusted.x", b"security.capability", b"system.posix_acl_access"]
    ),
    st.binary(max_size=600),
    max_size=3,
)


@st.composite
def chunked(draw, size):
    bounds = sorted(draw(st.lists(st.integers(0, size), max_size=12)))
    segments = [Segment(start, end - start) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    file = ChunkedFile(
        size, check(segments, size=size, stored=sum(part[1] for part in segments)), max_bytes=1 << 26
    )
    file.copies[:] = draw(st.randoms()).randbytes(len(file.copies))
    return file


@st.composite
def leaves(draw):
    special = [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
    kind = draw(st.sampled_from([stat.S_IFREG, stat.S_IFLNK, *special]))
    node = Node(kind | draw(st.integers(0, 0o7777)))
    node.uid, node.gid = draw(st.integers(0, (1 << 32) - 1)), draw(st.integers(0, (1 << 32) - 1))
    node.mtime_s = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    node.mtime_ns = draw(st.integers(0, 999_999_999))
    node.xattrs = draw(xattrs)
    if kind == stat.S_IFREG:
        node.size, node.address = draw(st.integers(0, 1 << 30)), draw(st.integers(0, 1000)) * BLOCK
        if draw(st.integers(0, 3)) == 3:
            node.size = draw(st.integers(1, 50_000))
            node.chunks = draw(chunked(node.size))
    if kind == stat.S_IFLNK:
        node.target = draw(targets)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        node.device = draw(st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)))
    return node


def with_children(children: dict[bytes, Node]) -> Node:
    node = Node(stat.S_IFDIR | 0o755)
    directory_children(node).update({name: Child(child, 0) for name, child in children.items()})
    return node


trees = st.recursive(
    leaves(), lambda inner: st.dictionaries(names, inner, max_size=12).map(with_children), max_leaves=25
)
roots = st.dictionaries(names, trees, max_size=20).map(with_children)


def encoded(device: tuple[int, int]) -> int:
    major, minor = device
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def scan(reader: MetadataReader, metadata: bytes | bytearray) -> bool:
    return has_xattrs(lambda offset, size: bytes(metadata[offset : offset + size]), reader)


def any_xattrs(node: Node) -> bool:
    children = (node.children or {}).values()
    return bool(node.xattrs) or any(any_xattrs(child.node) for child in children)


def listing(reader: MetadataReader, directory) -> list:
    return [entry for block in range(directory.blocks) for entry in reader.entries(directory, block)]


def check_same(reader: MetadataReader, inode, node: Node, metadata_bytes: int) -> None:
    assert inode.mode == node.mode
    assert (inode.uid, inode.gid) == (node.uid, node.gid)
    assert (inode.mtime_s, inode.mtime_ns) == (node.mtime_s, node.mtime_ns)
    assert reader.xattrs(inode) == node.xattrs
    assert inode.device == encoded(node.device)
    if stat.S_ISREG(node.mode):
        assert inode.size == node.size
        if node.chunks is None:
            assert inode.address == (metadata_bytes + node.address if node.size else 0)
        else:
            check_chunks(reader, inode, node, metadata_bytes)
    if stat.S_ISLNK(node.mode):
        assert reader.target(inode) == node.target


def check_chunks(reader: MetadataReader, inode, node: Node, metadata_bytes: int) -> None:
    """The extents are the chunks: holes, places in the layers, and copies in the metadata, in order."""
    chunk, copied, position = BLOCK << node.chunks.chunk_bits, 0, 0
    extents = list(reader.extents(inode, 0, node.size))
    for block, (address, length) in zip(node.chunks.blocks, extents, strict=True):
        assert length == min(chunk, node.size - position)
        if block == HOLE:
            assert address == 0
        elif block == COPY:
            assert bytes(reader._read(address, length)) == node.chunks.copies[copied : copied + length]
            copied += chunk
        else:
            assert address == metadata_bytes + node.address + block * BLOCK
        position += length
    half = reader.extents(inode, node.size // 2, node.size)
    assert sum(length for _, length in half) == node.size - node.size // 2


@settings(max_examples=50)
@given(roots)
def test_what_was_written_is_read_back(root):
    metadata = write_metadata(root, data_bytes=DATA_BYTES, align_bytes=65536)
    reader = MetadataReader.of_bytes(metadata)
    assert reader.blocks * BLOCK == len(metadata) + DATA_BYTES
    assert scan(reader, metadata) == any_xattrs(root)
    first = reader.inode(reader.root)
    pending, seen = [(root, first, first)], {first.number}
    while pending:
        node, inode, parent = pending.pop()
        check_same(reader, inode, node, len(metadata))
        if node.children is None:
            continue
        entries = {entry.name: entry for entry in listing(reader, inode)}
        assert list(entries) == sorted([*node.children, b".", b".."])
        assert (entries.pop(b".").inode, entries.pop(b"..").inode) == (inode.number, parent.number)
        for name, entry in entries.items():
            assert reader.lookup(inode, name) == entry
            child = reader.child(entry)
            seen.add(child.number)
            pending.append((node.children[name].node, child, inode))
    assert len(seen) == reader.inodes


@settings(max_examples=50)
@given(roots, names)
def test_a_name_that_is_absent_is_not_found(root, name):
    reader = MetadataReader.of_bytes(write_metadata(root, data_bytes=DATA_BYTES, align_bytes=512))
    found = reader.lookup(reader.inode(reader.root), name)
    assert (found is not None) == (name in directory_children(root))


def test_names_are_found_in_directories_of_many_blocks():
    children = {b"n%05d" % (2 * number): Node(stat.S_IFIFO) for number in range(3000)}
    reader = MetadataReader.of_bytes(write_metadata(with_children(children), data_bytes=0, align_bytes=512))
    root = reader.inode(reader.root)
    assert root.blocks > 50
    for number in range(6000):
        assert (reader.lookup(root, b"n%05d" % number) is None) == (number % 2 == 1)
    assert reader.lookup(root, b"a") is None
    assert reader.lookup(root, b"z") is None


def test_names_of_one_file_lead_to_one_inode():
    shared = Node(stat.S_IFREG)
    root = with_children({b"one": shared, b"dir": with_children({b"two": shared})})
    reader = MetadataReader.of_bytes(write_metadata(root, data_bytes=0, align_bytes=512))
    top = reader.inode(reader.root)
    directory = reader.child(reader.lookup(top, b"dir"))
    assert (top.links, directory.links) == (3, 2)
    one, two = reader.lookup(top, b"one"), reader.lookup(directory, b"two")
    assert one.inode == two.inode
    assert reader.child(one).links == 2


def visit(data: bytes) -> None:
    """Use every operation on whatever can be reached."""
    reader = MetadataReader.of_bytes(data)
    with contextlib.suppress(MetadataError):
        scan(reader, data)
    pending, left = [reader.root], 200
    while pending and left:
        left -= 1
        try:
            inode = reader.inode(pending.pop())
            reader.xattrs(inode)
            if stat.S_ISLNK(inode.mode):
                reader.target(inode)
            if stat.S_ISREG(inode.mode):
                list(reader.extents(inode, 0, min(inode.size, 1 << 16)))
            if stat.S_ISDIR(inode.mode):
                reader.lookup(inode, b"name")
                for block in range(min(inode.blocks, 20)):
                    for entry in reader.entries(inode, block):
                        assert entry.name
                        pending.append(entry.inode)
                        reader.child(entry)
        except MetadataError:
            continue


@given(st.binary(max_size=4096))
def test_any_bytes_are_values_or_the_declared_error(data):
    for read in (visit, parse_xattrs, lambda body: parse_directory_block(body, is_last=True)):
        try:
            read(data)
        except MetadataError:
            continue


@settings(max_examples=50)
@given(roots, st.data())
def test_changed_metadata_are_values_or_the_declared_error(root, data):
    metadata = write_metadata(root, data_bytes=1 << 20, align_bytes=512)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(1024, len(metadata) - 1))
        metadata[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 512]))
    try:
        visit(bytes(metadata[: len(metadata) - cut]))
    except MetadataError:
        return


def sample() -> bytearray:
    """An image whose root holds one file of 1000 bytes, 1 KiB behind the metadata."""
    node = Node(stat.S_IFREG | 0o644)
    node.size, node.address = 1000, 1024
    return write_metadata(with_children({b"name": node}), data_bytes=2048, align_bytes=512)


def read_sample(metadata: bytearray) -> None:
    reader = MetadataReader.of_bytes(metadata)
    root = reader.inode(reader.root)
    reader.xattrs(root)
    reader.child(reader.lookup(root, b"name"))
    listing(reader, root)


def test_the_sample_is_read():
    read_sample(sample())


ROOT_TAIL = ROOT_OFFSET + 64
FILE = ROOT_TAIL + 3 * 12 + 7 + 21  # entries and names of the root, then up to the next slot


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        pytest.param(1024, "<I", 0, id="magic"),
        pytest.param(1028, "<I", 1, id="checksum"),
        pytest.param(1032, "<I", 3, id="a feature"),
        pytest.param(1036, "<B", 12, id="larger blocks"),
        pytest.param(1037, "<B", 1, id="a larger superblock"),
        pytest.param(1038, "<H", 35, id="a root inside the superblock"),
        pytest.param(1038, "<H", 60000, id="a root outside of the image"),
        pytest.param(1060, "<I", 4, id="fewer blocks than a file needs"),
        pytest.param(1104, "<I", 1, id="a feature that breaks readers"),
        pytest.param(ROOT_OFFSET, "<H", 4, id="a short inode"),
        pytest.param(ROOT_OFFSET, "<H", 3, id="compressed data"),
        pytest.param(ROOT_OFFSET, "<H", 1, id="a directory's data outside of the image"),
        pytest.param(ROOT_OFFSET + 2, "<H", 1, id="attributes where entries are"),
        pytest.param(ROOT_OFFSET + 2, "<H", 65535, id="more attributes than metadata"),
        pytest.param(ROOT_OFFSET + 4, "<H", 0o140755, id="a socket with contents"),
        pytest.param(ROOT_OFFSET + 4, "<H", 0o150755, id="an unknown type of file"),
        pytest.param(ROOT_OFFSET + 4, "<H", 0o100755, id="a file with inline data"),
        pytest.param(ROOT_OFFSET + 8, "<Q", 0, id="an empty directory"),
        pytest.param(ROOT_OFFSET + 8, "<Q", 1 << 60, id="an endless directory"),
        pytest.param(ROOT_OFFSET + 8, "<Q", 512, id="an inline tail of no bytes"),
        pytest.param(ROOT_OFFSET + 8, "<Q", 500, id="an inline tail across blocks"),
        pytest.param(ROOT_OFFSET + 16, "<I", 0, id="an address without contents"),
        pytest.param(ROOT_OFFSET + 40, "<I", 1_000_000_000, id="a second of nanoseconds"),
        pytest.param(ROOT_OFFSET + 44, "<I", 0, id="no links"),
        pytest.param(ROOT_OFFSET + 56, "<Q", 1, id="reserved bytes"),
        pytest.param(ROOT_TAIL + 8, "<H", 0, id="names at the entries"),
        pytest.param(ROOT_TAIL + 8, "<H", 37, id="names between entries"),
        pytest.param(ROOT_TAIL + 8, "<H", 1200, id="names outside of the block"),
        pytest.param(ROOT_TAIL + 20, "<H", 36, id="a name of no bytes"),
        pytest.param(ROOT_TAIL + 24, "<Q", 1 << 63, id="an entry outside of the image"),
        pytest.param(ROOT_TAIL + 34, "<B", 2, id="a file that is called a directory"),
        pytest.param(ROOT_TAIL + 34, "<B", 8, id="an unknown type"),
        pytest.param(ROOT_TAIL + 35, "<B", 1, id="a reserved byte of an entry"),
        pytest.param(ROOT_TAIL + 36, "<B", 0, id="a name with a zero byte"),
        pytest.param(ROOT_TAIL + 36, "<B", ord("/"), id="a name with a slash"),
        pytest.param(ROOT_TAIL + 36, "<B", ord("x"), id="names that are not sorted"),
        pytest.param(FILE + 8, "<Q", 1025, id="a file longer than the image"),
        pytest.param(FILE + 16, "<I", 0, id="a file in the superblock"),
        pytest.param(FILE + 16, "<I", 0xFFFFFFFE, id="a file outside of the image"),
    ],
)
def test_what_we_do_not_write_is_refused(offset, layout, value):
    metadata = sample()
    struct.pack_into(layout, metadata, offset, value)
    with pytest.raises(MetadataError):
        read_sample(metadata)


def sparse_sample() -> bytearray:
    """The same with a sparse file: a chunk of the layer, a hole, a copy, and more holes."""
    node = Node(stat.S_IFREG | 0o644)
    node.size, node.address = 5000, 1024
    node.chunks = ChunkedFile(5000, (Segment(0, 512), Segment(1024, 10)), max_bytes=1 << 20)
    return write_metadata(with_children({b"name": node}), data_bytes=2048, align_bytes=512)


def read_sparse_sample(metadata: bytearray) -> list[tuple[int, int]]:
    reader = MetadataReader.of_bytes(metadata)
    assert not scan(reader, metadata)
    inode = reader.child(reader.lookup(reader.inode(reader.root), b"name"))
    return list(reader.extents(inode, 0, inode.size))


def test_the_sparse_sample_is_read():
    metadata = sparse_sample()
    extents = read_sparse_sample(metadata)
    assert extents[0] == (len(metadata) + 1024, 512)
    assert [address > 0 for address, _ in extents] == [True, False, True] + [False] * 7


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        pytest.param(1104, "<I", 0, id="chunks without the feature"),
        pytest.param(FILE + 4, "<H", 0o120644, id="a link in chunks"),
        pytest.param(FILE + 8, "<Q", 0, id="no contents"),
        pytest.param(FILE + 8, "<Q", 1 << 60, id="more chunks than metadata"),
        pytest.param(FILE + 16, "<I", 32, id="chunks without bound"),
        pytest.param(FILE + 64, "<I", 0, id="a chunk in the superblock"),
        pytest.param(FILE + 64, "<I", 0xFFFFFFFE, id="a chunk outside of the image"),
    ],
)
def test_chunks_that_we_do_not_write_are_refused(offset, layout, value):
    metadata = sparse_sample()
    struct.pack_into(layout, metadata, offset, value)
    with pytest.raises(MetadataError):
        read_sparse_sample(metadata)


def test_only_files_have_extents():
    reader = MetadataReader.of_bytes(sample())
    with pytest.raises(MetadataError):
        list(reader.extents(reader.inode(reader.root), 0, 1))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(bytes(11), id="half a header"),
        pytest.param(bytes(4) + b"\1" + bytes(7), id="shared attributes"),
        pytest.param(bytes(12) + b"\1\1\0", id="half an entry"),
        pytest.param(bytes(12) + b"\1\1\1\0", id="no name"),
        pytest.param(bytes(12) + b"\1\1\1\0ab\0\1", id="padding that says something"),
        pytest.param(bytes(12) + b"\1\5\1\0ab\0\0", id="an unknown prefix"),
        pytest.param(bytes(12) + b"\0\1\2\0ab\0\0", id="a prefix alone"),
        pytest.param(bytes(12) + b"\1\2\1\0ab\0\0", id="more than a whole name"),
        pytest.param(bytes(12) + b"\1\1\1\0\0b\0\0", id="a name with a zero byte"),
        pytest.param(bytes(12) + b"\1\1\1\0ab\0\0" * 2, id="one twice"),
    ],
)
def test_attributes_that_we_do_not_write_are_refused(body):
    with pytest.raises(MetadataError):
        parse_xattrs(body)


def test_a_symbolic_link_is_no_directory_and_a_directory_no_link():
    link = Node(stat.S_IFLNK | 0o777)
    link.target = b"target"
    root = with_children({b"link": link})
    reader = MetadataReader.of_bytes(write_metadata(root, data_bytes=0, align_bytes=512))
    directory = reader.inode(reader.root)
    inode = reader.child(reader.lookup(directory, b"link"))
    with pytest.raises(MetadataError):
        reader.entries(inode, 0)
    with pytest.raises(MetadataError):
        reader.entries(directory, 1)
    with pytest.raises(MetadataError):
        reader.target(directory)


def test_errors_of_the_device_pass_through():
    def read(offset, size):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        MetadataReader(read)


def test_a_scan_that_misses_an_inode_is_an_error_and_not_an_answer():
    metadata = sample()
    struct.pack_into("<I", metadata, FILE + 20, 3)
    with pytest.raises(MetadataError):
        scan(MetadataReader.of_bytes(metadata), metadata)
    with pytest.raises(MetadataError):
        scan(MetadataReader.of_bytes(metadata), metadata[:FILE])
