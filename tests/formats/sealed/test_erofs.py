"""The metadata say what the tree says, read back by a reader written from the kernel's documentation."""

from __future__ import annotations

import contextlib
import itertools
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.sealed.erofs import ImageTooLargeError, write_metadata
from enclave_cc.formats.sealed.erofs_layout import encode_xattrs, lay_out
from enclave_cc.formats.sealed.node import Child, Node, directory_children
from enclave_cc.formats.sealed.tree import LayerError, Tree
from enclave_cc.formats.tar.entry import EntryKind, TarEntry

BLOCK = 512
FILE_TYPES = {"r": 1, "d": 2, "c": 3, "b": 4, "p": 5, "s": 6, "l": 7}
PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
}


def read_inode(image: bytes, nid: int) -> dict:
    offset = nid * 32
    form, icount, mode, _, size, union, _, uid, gid, mtime, mtime_ns, links = struct.unpack_from(
        "<HHHHQIIIIqII", image, offset
    )
    xattr_bytes = 12 + (icount - 1) * 4 if icount else 0
    inode = {"mode": mode, "size": size, "owner": (uid, gid), "mtime": (mtime, mtime_ns), "links": links}
    inode["xattrs"] = read_xattrs(image[offset + 64 : offset + 64 + xattr_bytes])
    inode["union"] = union
    if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        inline = form >> 1 == 2
        outside = size // BLOCK * BLOCK if inline else size
        inode["data"] = image[union * BLOCK : union * BLOCK + outside] if outside else b""
        tail = offset + 64 + xattr_bytes
        if inline:
            assert size % BLOCK
            # A tail is read from one block, and a link is taken inline only with the attributes before it.
            assert (offset + 64) // BLOCK == (tail + size % BLOCK - 1) // BLOCK
            inode["data"] += image[tail : tail + size % BLOCK]
    return inode


def read_xattrs(body: bytes) -> dict[bytes, bytes]:
    found, position = {}, 12
    while position < len(body):
        name_length, index, value_length = struct.unpack_from("<BBH", body, position)
        name = body[position + 4 : position + 4 + name_length]
        value = body[position + 4 + name_length :][:value_length]
        found[PREFIXES[index] + name] = value
        position += (4 + name_length + value_length + 3) & -4
    return found


def read_directory(data: bytes) -> dict[bytes, tuple[int, int]]:
    found: dict[bytes, tuple[int, int]] = {}
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        count = struct.unpack_from("<QH", block)[1] // 12
        dirents = [struct.unpack_from("<QHBB", block, 12 * index) for index in range(count)]
        ends = [entry[1] for entry in dirents[1:]] + [len(block)]
        for (nid, begin, kind, _), end in zip(dirents, ends, strict=True):
            found[block[begin:end].rstrip(b"\0")] = (nid, kind)
    assert list(found) == sorted(found)
    return found


def read_tree(image: bytes) -> dict[bytes, dict]:
    magic, features, bits, root, _inodes = struct.unpack_from("<I4xIBxHQ", image, 1024)
    assert (magic, features, bits) == (0xE0F5E1E2, 2, 9)
    found = {b"": read_inode(image, root)}
    pending = [(b"", root, root)]
    while pending:
        prefix, nid, parent = pending.pop()
        entries = read_directory(read_inode(image, nid)["data"])
        assert (entries.pop(b"."), entries.pop(b"..")) == ((nid, 2), (parent, 2))
        for name, (child, kind) in entries.items():
            path = prefix + b"/" + name
            found[path] = read_inode(image, child) | {"nid": child}
            assert kind == FILE_TYPES[kind_letter(found[path]["mode"])]
            if kind == 2:
                pending.append((path, child, nid))
    return found


def kind_letter(mode: int) -> str:
    return "r" if stat.S_ISREG(mode) else stat.filemode(mode)[0]


names = st.binary(min_size=1, max_size=255).map(lambda name: name.translate(None, b"\0/") or b"n")
names = names.filter(lambda name: name not in (b".", b".."))
xattrs = st.dictionaries(
    st.sampled_from(
        [b"user.a", b"user.bcd", b"trusted.x", b"security.capability", b"system.posix_acl_access"]
    ),
    st.binary(max_size=600),
    max_size=3,
)


@st.composite
def leaves(draw):
    special = [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
    kind = draw(st.sampled_from([stat.S_IFREG, stat.S_IFLNK, *special]))
    node = Node(kind | draw(st.integers(0, 0o7777)))
    node.uid, node.gid = draw(st.integers(0, (1 << 32) - 1)), draw(st.integers(0, (1 << 32) - 1))
    node.mtime_s, node.mtime_ns = (
        draw(st.integers(-(1 << 63), (1 << 63) - 1)),
        draw(st.integers(0, 999_999_999)),
    )
    node.xattrs = draw(xattrs)
    if kind == stat.S_IFREG:
        node.size, node.address = draw(st.integers(0, 1 << 30)), draw(st.integers(0, 1000)) * BLOCK
    if kind == stat.S_IFLNK:
        node.target = draw(st.binary(min_size=1, max_size=1200))
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        node.device = draw(st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)))
    return node


def with_children(children: dict[bytes, Node]) -> Node:
    node = Node(stat.S_IFDIR | 0o755)
    directory_children(node).update({name: Child(child, 0) for name, child in children.items()})
    return node


def nodes_by_path(root: Node) -> dict[bytes, Node]:
    found, pending = {b"": root}, [(b"", root)]
    while pending:
        prefix, node = pending.pop()
        for name, child in directory_children(node).items():
            found[prefix + b"/" + name] = child.node
            if child.node.children is not None:
                pending.append((prefix + b"/" + name, child.node))
    return found


trees = st.recursive(
    leaves(), lambda inner: st.dictionaries(names, inner, max_size=12).map(with_children), max_leaves=25
)


@given(st.dictionaries(names, trees, max_size=20).map(with_children))
def test_metadata_say_what_the_tree_says(root):
    image = bytes(write_metadata(root, data_bytes=1 << 31, align_bytes=65536))
    assert len(image) % 65536 == 0
    read, nodes = read_tree(image), nodes_by_path(root)
    assert read.keys() == nodes.keys()
    for path, node in nodes.items():
        inode = read[path]
        assert (inode["mode"], inode["owner"]) == (node.mode, (node.uid, node.gid))
        assert inode["mtime"] == (node.mtime_s, node.mtime_ns)
        assert inode["xattrs"] == node.xattrs
        if stat.S_ISREG(node.mode):
            assert inode["size"] == node.size
            assert not node.size or inode["union"] * BLOCK == len(image) + node.address
        if stat.S_ISLNK(node.mode):
            assert inode["data"] == node.target
        if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            device = inode["union"]
            major, minor = (device & 0xFFF00) >> 8, device & 0xFF | device >> 12 & 0xFFF00
            assert (major, minor) == node.device


@pytest.mark.parametrize("length", range(1, 256, 11))
@pytest.mark.parametrize("count", [1, 2, 7, 40, 300])
def test_directories_of_any_size_are_read_back(length, count):
    children = {b"%0*d" % (length, number): Node(stat.S_IFIFO) for number in range(min(count, 10**length))}
    image = bytes(write_metadata(with_children(children), data_bytes=0, align_bytes=512))
    assert read_tree(image).keys() == {b"", *(b"/" + name for name in children)}


def test_links_are_counted():
    shared = Node(stat.S_IFREG)
    inner = with_children({b"three": shared})
    root = with_children({b"one": shared, b"two": shared, b"dir": inner, b"empty": with_children({})})
    read = read_tree(bytes(write_metadata(root, data_bytes=0, align_bytes=512)))
    assert {path: inode["links"] for path, inode in read.items()} == {
        b"": 4,
        b"/one": 3,
        b"/two": 3,
        b"/dir/three": 3,
        b"/dir": 2,
        b"/empty": 2,
    }
    assert read[b"/one"]["nid"] == read[b"/dir/three"]["nid"]


def test_the_metadata_are_the_same_every_time():
    first, second = (with_children({b"a": Node(stat.S_IFIFO), b"b": with_children({})}) for _ in range(2))
    assert write_metadata(first, data_bytes=0, align_bytes=512) == write_metadata(
        second, data_bytes=0, align_bytes=512
    )


def test_inodes_do_not_overlap():
    children = {b"%d" % number: Node(stat.S_IFLNK) for number in range(200)}
    for number, node in enumerate(children.values()):
        node.target = b"t" * (number * 3 + 1)
        node.xattrs = {b"user.a": bytes(number)}
    placements = lay_out(with_children(children)).placements()
    for (_, one), (_, next_one) in itertools.pairwise(placements):
        assert one.tail_offset <= next_one.offset
        assert next_one.offset % 32 == 0


def test_attributes_of_other_systems_are_left_out():
    assert encode_xattrs({b"com.example.note": b"x", b"user.": b"y"}) == b""


def test_an_image_that_cannot_be_addressed_is_refused():
    with pytest.raises(ImageTooLargeError):
        write_metadata(with_children({}), data_bytes=1 << 41, align_bytes=65536)


@st.composite
def tar_entries(draw):
    """Anything the scanner lets through, its limits above all."""
    kind = draw(st.sampled_from(list(EntryKind)))
    link = kind in (EntryKind.SYMBOLIC_LINK, EntryKind.HARD_LINK)
    return TarEntry(
        path=draw(st.sampled_from([b"a", b"b", b"a/b", b"b/c", b"a/.wh.b", b"c" * 255, b"./"])),
        kind=kind,
        data_offset=draw(st.integers(1, 1 << 20)) * 512,
        size=draw(st.sampled_from([0, 1, 1 << 41])) if kind is EntryKind.FILE else 0,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.sampled_from([0, (1 << 32) - 1])),
        gid=draw(st.sampled_from([0, (1 << 32) - 1])),
        mtime_s=draw(st.sampled_from([-(1 << 63), 0, (1 << 63) - 1])),
        mtime_ns=draw(st.sampled_from([0, 999_999_999])),
        target=draw(st.sampled_from([b"a", b"b", b"t" * 448, b"t" * 511, b"t" * 512, b"t" * 4095]))
        if link
        else b"",
        device=draw(st.sampled_from([(0, 0), (4095, (1 << 20) - 1)])),
        xattrs=draw(
            st.dictionaries(
                st.sampled_from([b"user.a", b"user." + b"n" * 250, b"trusted.b"]),
                st.sampled_from([b"", b"v", bytes(65535)]),
                max_size=2,
            )
        ),
    )


@given(st.lists(st.lists(tar_entries(), max_size=8), max_size=3))
def test_whatever_the_tree_accepts_can_be_written_and_read(layers):
    tree = Tree()
    for number, entries in enumerate(layers):
        tree.begin_layer(number << 30)
        for entry in entries:
            with contextlib.suppress(LayerError):
                tree.add(entry)
    image = bytes(write_metadata(tree.root, data_bytes=1 << 32, align_bytes=65536))
    assert read_tree(image).keys() == nodes_by_path(tree.root).keys()
