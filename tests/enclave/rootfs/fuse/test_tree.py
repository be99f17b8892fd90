"""The answers to the kernel's requests, without a kernel; with one, test_mount compares all back ends."""

from __future__ import annotations

import errno
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.enclave.rootfs.device.device import DeviceRefusedError
from enclave_cc.enclave.rootfs.fuse.protocol import REPLY, FuseError, Opcode
from enclave_cc.enclave.rootfs.fuse.tree import TreeOperations
from enclave_cc.enclave.rootfs.mounting.selftest import damaged_device
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.erofs_reader import MetadataError
from enclave_cc.formats.sealed.node import Child, Node, directory_children

ROOT = 1
PAGE = 4096
DATA = bytes(range(256)) * 300


class PlainDevice:
    """Bytes in memory; refuses everything on request."""

    opened_in_part = None

    def __init__(self, data: bytes):
        self.bytes = data
        self.size = len(data)
        self.refuses = False

    def reader(self):
        return self

    def read_into(self, offset, out):
        if self.refuses:
            raise DeviceRefusedError
        part = self.bytes[offset : offset + len(out)]
        out[: len(part)] = part
        return len(part)


def directory(**children: Node) -> Node:
    node = Node(stat.S_IFDIR | 0o755)
    for name, child in children.items():
        directory_children(node)[name.encode()] = Child(child, 0)
    return node


def file(**attributes) -> Node:
    node = Node(stat.S_IFREG | 0o644)
    for name, value in attributes.items():
        setattr(node, name, value)
    return node


def device_of(root: Node) -> PlainDevice:
    metadata = write_metadata(root, data_bytes=2 * CHUNK_BYTES, align_bytes=CHUNK_BYTES)
    return PlainDevice(bytes(metadata) + DATA.ljust(2 * CHUNK_BYTES, b"\0"))


class Client:
    """Asks as the kernel does."""

    def __init__(self, root: Node, **options):
        self.device = device_of(root)
        self.operations = TreeOperations(self.device, **options)
        self.out = memoryview(bytearray(1 << 20))

    def ask(self, opcode: int, node: int, body: bytes = b"") -> bytes:
        size = self.operations.answer(opcode, node, memoryview(body), self.out)
        return bytes(self.out[:size])

    def error(self, opcode: int, node: int, body: bytes = b"") -> int:
        with pytest.raises(FuseError) as caught:
            self.ask(opcode, node, body)
        return caught.value.number

    def lookup(self, name: bytes, node: int = ROOT) -> int:
        return struct.unpack_from("<Q", self.ask(Opcode.LOOKUP, node, name + b"\0"))[0]

    def read(self, node: int, offset: int, size: int, opcode: int = Opcode.READ) -> bytes:
        return self.ask(opcode, node, struct.pack("<QQI20x", 0, offset, size))

    def names(self, node: int, size: int, opcode: int) -> list[bytes]:
        found, offset = [], 0
        while answer := self.read(node, offset, size, opcode):
            assert len(answer) <= size
            position = 0
            while position < len(answer):
                position += 128 if opcode == Opcode.READDIRPLUS else 0
                _inode, offset, length, _kind = struct.unpack_from("<QQII", answer, position)
                found.append(answer[position + 24 : position + 24 + length])
                position += (24 + length + 7) & -8
        return found


def xattr(room: int, name: bytes = b"") -> bytes:
    return struct.pack("<I4x", room) + (name + b"\0" if name else b"")


def test_a_file_is_found_and_read():
    client = Client(directory(a=file(size=len(DATA))))
    node = client.lookup(b"a")
    assert client.read(node, 0, 1 << 20) == DATA
    assert client.read(node, 70_000, 100) == DATA[70_000:70_100]
    assert client.read(node, len(DATA) - 3, PAGE) == DATA[-3:]
    assert client.read(node, len(DATA), PAGE) == b""
    assert client.read(node, 1 << 60, PAGE) == b""


def test_nothing_behind_the_end_of_a_file_is_returned():
    client = Client(directory(a=file(size=10)))
    assert client.read(client.lookup(b"a"), 0, PAGE) == DATA[:10]


def test_what_does_not_exist_is_said_for_good():
    answer = Client(directory()).ask(Opcode.LOOKUP, ROOT, b"absent\0")
    node, _generation, name_valid_s = struct.unpack_from("<QQQ", answer)
    assert node == 0
    assert name_valid_s > 1 << 29


def test_the_same_inode_is_the_same_node():
    shared = file()
    client = Client(directory(one=shared, d=directory(two=shared)))
    assert client.lookup(b"one") == client.lookup(b"two", client.lookup(b"d"))


def test_a_file_handle_leads_to_itself_and_a_directory_to_its_parent():
    client = Client(directory(d=directory(a=file())))
    inner = client.lookup(b"d")
    leaf = client.lookup(b"a", inner)
    assert client.lookup(b".", leaf) == leaf
    assert client.lookup(b".", inner) == inner
    assert client.lookup(b"..", inner) == ROOT
    assert client.lookup(b".", ROOT) == ROOT


@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
@pytest.mark.parametrize("size", [512, PAGE, 1 << 20])
def test_a_directory_is_listed_in_pieces_of_any_size(opcode, size):
    names = [f"{'x' * (number % 180)}{number}" for number in range(400)]
    client = Client(directory(**{name: file() for name in names}))
    assert client.names(ROOT, size, opcode) == sorted([b".", b"..", *(name.encode() for name in names)])


def test_attributes_are_found_listed_and_measured():
    client = Client(directory(a=file(xattrs={b"user.a": b"value", b"security.capability": b"c" * 20})))
    node = client.lookup(b"a")
    assert client.ask(Opcode.GETXATTR, node, xattr(100, b"user.a")) == b"value"
    assert client.ask(Opcode.GETXATTR, node, xattr(0, b"user.a")) == struct.pack("<II", 5, 0)
    assert client.ask(Opcode.LISTXATTR, node, xattr(100)) == b"security.capability\0user.a\0"
    assert client.ask(Opcode.LISTXATTR, node, xattr(0)) == struct.pack("<II", 27, 0)
    assert client.error(Opcode.GETXATTR, node, xattr(4, b"user.a")) == errno.ERANGE
    assert client.error(Opcode.LISTXATTR, node, xattr(26)) == errno.ERANGE
    assert client.error(Opcode.GETXATTR, node, xattr(100, b"user.b")) == errno.ENODATA
    assert client.error(Opcode.GETXATTR, node, xattr(100, b"trusted.overlay.metacopy")) == errno.ENODATA


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_tree_without_attributes_is_recognised(count):
    many = {f"f{number}": file(mode=stat.S_IFLNK, target=b"t" * (number + 1)) for number in range(count)}
    assert not Client(directory(**many)).operations.finds_xattrs()
    assert Client(directory(**many, z=file(xattrs={b"user.a": b""}))).operations.finds_xattrs()


def test_without_attributes_the_kernel_need_not_ask_but_may_list():
    client = Client(directory(a=file()), with_xattrs=False)
    assert client.error(Opcode.GETXATTR, client.lookup(b"a"), xattr(100, b"user.a")) == errno.ENOSYS
    assert client.ask(Opcode.LISTXATTR, client.lookup(b"a"), xattr(100)) == b""


def test_the_scan_touches_nothing_behind_the_metadata():
    device = damaged_device()
    assert not TreeOperations(device).finds_xattrs()
    assert not device.poisoned


def test_what_makes_no_sense_is_an_error():
    client = Client(directory(a=file(size=10)))
    leaf = client.lookup(b"a")
    assert client.error(Opcode.LOOKUP, leaf, b"a\0") == errno.ENOTDIR
    assert client.error(Opcode.READ, ROOT, struct.pack("<QQI20x", 0, 0, 1)) == errno.EINVAL
    assert client.error(Opcode.READDIR, leaf, struct.pack("<QQI20x", 0, 0, 1)) == errno.ENOTDIR
    for opcode in (14, 27, 34, 9999):  # OPEN, OPENDIR, ACCESS
        assert client.error(opcode, ROOT) == errno.ENOSYS
    with pytest.raises(MetadataError):
        client.ask(Opcode.READLINK, leaf)


def test_a_device_that_refuses_is_heard_by_every_request():
    client = Client(directory(a=file(size=10, xattrs={b"user.a": b"value"})))
    leaf = client.lookup(b"a")
    client.device.refuses = True
    for opcode, node, body in (
        (Opcode.LOOKUP, ROOT, b"a\0"),
        (Opcode.GETATTR, leaf, b""),
        (Opcode.READ, leaf, struct.pack("<QQI20x", 0, 0, 1)),
        (Opcode.READDIR, ROOT, struct.pack("<QQI20x", 0, 0, PAGE)),
        (Opcode.GETXATTR, leaf, xattr(0, b"user.a")),
    ):
        with pytest.raises(DeviceRefusedError):
            client.ask(opcode, node, body)


def test_a_device_that_is_too_short_for_its_tree_is_refused():
    device = device_of(directory(a=file(size=10)))
    device.size -= CHUNK_BYTES
    with pytest.raises(MetadataError):
        TreeOperations(device)


@given(
    st.sampled_from([*Opcode, 14, 27, 34]),
    st.one_of(st.integers(0, 100), st.integers(0, (1 << 64) - 1)),
    st.binary(max_size=80),
)
def test_any_request_has_an_answer_or_a_known_error(opcode, node, body):
    client = Client(directory(a=file(size=10, xattrs={b"user.a": b"v"}), d=directory(b=file())))
    try:
        assert len(client.ask(opcode, node, body)) <= (1 << 20) - REPLY.size
    except (FuseError, MetadataError, struct.error):
        # All of them become an error number at the border.
        return
