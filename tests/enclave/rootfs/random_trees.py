"""Random trees of every kind of file, straight from the model, and what the kernel must say of them."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.device import Segment, VirtualDevice
from enclave_cc.enclave.rootfs.device.sources import MemorySource
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, ChunkOpener, ChunkSealer
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.node import Child, Node, directory_children

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(1, 252)) * 1500
MAX_SIZE = 200_000
SPECIAL = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)

# The kernel looks into these two; others may hold anything.
CAPABILITY = struct.pack("<IIIII", 0x02000000, 1 << 10, 0, 0, 0)
_NOBODY = 0xFFFFFFFF
_ACL_ENTRIES = ((1, 6, _NOBODY), (2, 4, 1000), (4, 0, _NOBODY), (16, 4, _NOBODY), (32, 0, _NOBODY))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in _ACL_ENTRIES)

names = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from([b"n" * 255, b"\xff" * 255, b"\xc3\x28", b" ", b"...", b"-", b"\n", "漢字".encode()]),
).map(lambda name: name.translate(None, b"\0/") or b"n")
names = names.filter(lambda name: name not in (b".", b".."))
owners = st.one_of(st.sampled_from([0, 65_535, 65_536, (1 << 32) - 2]), st.integers(0, (1 << 32) - 2))
times_s = st.one_of(st.sampled_from([0, -1, 1 << 31, 1 << 32]), st.integers(-(1 << 40), 1 << 40))
sizes = st.one_of(st.sampled_from([0, 1, 511, 512, 513, 4096, 65_536]), st.integers(0, MAX_SIZE))
targets = st.binary(min_size=1, max_size=4000).map(lambda target: target.replace(b"\0", b"t"))
notes = st.dictionaries(
    st.sampled_from([b"user.note", b"user.b", b"trusted.t", b"security.other"]),
    st.binary(max_size=900),
    max_size=3,
)


@st.composite
def attributes(draw, kind: int) -> Node:
    node = Node(kind | draw(st.integers(0, 0o7777)))
    node.uid, node.gid = draw(owners), draw(owners)
    node.mtime_s, node.mtime_ns = draw(times_s), draw(st.integers(0, 999_999_999))
    if kind in (stat.S_IFREG, stat.S_IFDIR) and draw(st.booleans()):
        # No user attributes on special files and links: the kernel would refuse to read them.
        node.xattrs = draw(notes)
        if kind == stat.S_IFREG and draw(st.booleans()):
            node.xattrs |= {b"security.capability": CAPABILITY}
    return node


@st.composite
def leaves(draw) -> Node:
    kind = draw(st.sampled_from([stat.S_IFREG] * 4 + [stat.S_IFLNK] * 2 + list(SPECIAL)))
    node = draw(attributes(kind))
    if kind == stat.S_IFREG:
        node.size, node.address = draw(sizes), draw(st.integers(0, 300)) * 512
    elif kind == stat.S_IFLNK:
        node.mode, node.target = stat.S_IFLNK | 0o777, draw(targets)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        node.device = draw(st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)))
    elif draw(st.booleans()):
        node.xattrs = {b"trusted.t": b"1"}
    return node


@st.composite
def directories(draw, inner) -> Node:
    node = draw(attributes(stat.S_IFDIR))
    for name, child in draw(st.dictionaries(names, inner, max_size=10)).items():
        directory_children(node)[name] = Child(child, 0)
    return node


@st.composite
def trees(draw) -> Node:
    """Return a root; a few of its files have a second name."""
    root = draw(directories(st.recursive(leaves(), directories, max_leaves=25)))
    plain = [child.node for child in directory_children(root).values() if child.node.children is None]
    for number, node in enumerate(plain[: draw(st.integers(0, 3))]):
        directory_children(root)[b"second name %d" % number] = Child(node, 0)
    return root


def sealed_device(root: Node, data: bytes = DATA) -> VirtualDevice:
    """Seal metadata and data under keys of their own, and open them as one device."""
    data = data.ljust(-(-len(data) // CHUNK_BYTES) * CHUNK_BYTES, b"\0")
    metadata = write_metadata(root, data_bytes=len(data), align_bytes=CHUNK_BYTES)
    segments = []
    for part in (metadata, data):
        key = Secret.random(32)
        sealer = ChunkSealer(key)
        sealed = b"".join([bytes(piece) for piece in sealer.feed(part)])
        sealed += sealer.finish()
        segments.append(Segment(MemorySource(sealed), ChunkOpener(key), sealer.chunks))
    return VirtualDevice(segments, on_poison=lambda finding: None)


def expected(root: Node, data: bytes = DATA) -> dict[bytes, tuple]:
    """Say what ``seen`` must say."""
    found, pending = {}, [(b"", root)]
    links: dict[int, int] = {}
    while pending:
        path, node = pending.pop()
        links[id(node)] = links.get(id(node), 0) + 1
        found[path] = node
        children = node.children or {}
        pending += [(path + b"/" + name, child.node) for name, child in children.items()]
    return {path: _described(node, links[id(node)], data) for path, node in found.items()}


def _described(node: Node, names_count: int, data: bytes) -> tuple:
    children = [child.node for child in (node.children or {}).values()]
    subdirectories = sum(child.children is not None for child in children)
    is_device = stat.S_IFMT(node.mode) in (stat.S_IFCHR, stat.S_IFBLK)
    content = data[node.address : node.address + node.size] if stat.S_ISREG(node.mode) else node.target
    return (
        oct(node.mode),
        (node.uid, node.gid),
        node.mtime_s * 10**9 + node.mtime_ns,
        2 + subdirectories if node.children is not None else names_count,
        node.device if is_device else (0, 0),
        content,
        dict(node.xattrs),
    )


def seen(top: Path) -> dict[bytes, tuple]:
    """Say all that the kernel shows of a tree."""
    found, pending = {}, [b""]
    while pending:
        path = pending.pop()
        full = os.fsencode(top) + path
        status = os.lstat(full)
        found[path] = _read(full, status)
        if stat.S_ISDIR(status.st_mode):
            pending += [path + b"/" + name for name in os.listdir(full)]  # noqa: PTH208 - bytes
    return found


def _read(path: bytes, status: os.stat_result) -> tuple:
    content = b""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123 - bytes
            content = file.read()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)  # noqa: PTH115 - bytes
    return (
        oct(status.st_mode),
        (status.st_uid, status.st_gid),
        status.st_mtime_ns,
        status.st_nlink,
        (os.major(status.st_rdev), os.minor(status.st_rdev)),
        content,
        {
            name.encode(): os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
    )
