"""The parsers of what hosts, registries and people send, with seeds that they accept."""

from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tests.enclave.rootfs.device.test_scratch_store import MemoryFile
from tests.enclave.rootfs.fuse.test_tree import PlainDevice
from tests.formats.sealed.golden import write as golden
from tests.formats.tar.sparse_archives import END, FORMATS
from tests.formats.test_initdata import FULL, text_of
from tests.fuzz.engine import Target

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.scratch_store import ScratchStore
from enclave_cc.enclave.rootfs.fuse.block_file import BlockFileOperations
from enclave_cc.enclave.rootfs.fuse.file import FileOperations
from enclave_cc.enclave.rootfs.fuse.prefetch import ChunkPrefetcher
from enclave_cc.enclave.rootfs.fuse.protocol import FuseError, Opcode
from enclave_cc.enclave.rootfs.fuse.tree import TreeOperations
from enclave_cc.formats.initdata import InitData, decode_annotation, encode_annotation
from enclave_cc.formats.launch import ApprovedMount, LaunchConfiguration
from enclave_cc.formats.oci.runtime_spec import RuntimeSpec
from enclave_cc.formats.rootfs_annotations import RootfsWish
from enclave_cc.formats.sealed.erofs import ImageTooLargeError, write_metadata
from enclave_cc.formats.sealed.erofs_reader import MetadataError, MetadataReader
from enclave_cc.formats.sealed.erofs_scan import has_xattrs
from enclave_cc.formats.sealed.manifest import (
    Binding,
    ManifestRefusedError,
    UnknownFormatError,
    open_manifest,
)
from enclave_cc.formats.sealed.tree import LayerError, Tree
from enclave_cc.formats.tar.entry import TarError
from enclave_cc.formats.tar.scanner import TarScanner

if TYPE_CHECKING:
    from collections.abc import Sequence

BINDING = Binding(golden.BINDING["pod"], golden.BINDING["container"], golden.BINDING["image_digest"])
PREFIX = b"enclave-cc sealed image\n\0\0\0\2"
INFO = b"enclave-cc sealed image, manifest, v1"
MANIFEST_KEY = HKDF(SHA256(), 32, salt=None, info=INFO).derive(golden.FDK)
# The inodes of an image that a mutated tree is walked to; loops have no end of their own.
MAX_VISITS = 200


def open_sealed(data: bytes) -> None:
    open_manifest(data, fdk=Secret(golden.FDK), binding=BINDING).wipe()


def open_authentic(body: bytes) -> None:
    """Open a manifest that says anything, and is authentic: what its parser must bear."""
    sealed = AESGCM(MANIFEST_KEY).encrypt(golden.NONCE, body, BINDING.associated_data())
    open_sealed(PREFIX + golden.NONCE + sealed)


def manifests() -> Sequence[bytes]:
    return [(golden.HERE / "manifest.sealed").read_bytes()]


def manifest_bodies() -> Sequence[bytes]:
    sealed = manifests()[0]
    return [AESGCM(MANIFEST_KEY).decrypt(golden.NONCE, sealed[40:], BINDING.associated_data())]


def metadata() -> Sequence[bytes]:
    return [(golden.HERE / "metadata.erofs").read_bytes().ljust(12_288, b"\0")]


def read_metadata(data: bytes) -> None:
    """Look at everything that can be reached, for a while."""
    reader = MetadataReader.of_bytes(data)
    has_xattrs(lambda offset, size: data[offset : offset + size], reader)
    pending = [reader.root]
    for _ in range(MAX_VISITS):
        if not pending:
            return
        inode = reader.inode(pending.pop())
        reader.xattrs(inode)
        match inode.kind:
            case stat.S_IFLNK:
                reader.target(inode)
            case stat.S_IFREG:
                list(reader.extents(inode, 0, min(inode.size, 1 << 16)))
            case stat.S_IFDIR:
                reader.lookup(inode, b"name")
                for block in range(min(inode.blocks, 20)):
                    pending += [entry.inode for entry in reader.entries(inode, block)]


class _NoRoom:
    """A root file system that is never poisoned: its memory is our own."""

    def check(self):
        """Nothing was refused."""

    def poison(self, reason, *, expected):
        raise AssertionError(reason)


OUT_BYTES = 1 << 20
REQUEST = struct.Struct("<HQ")


def requests() -> Sequence[bytes]:
    read = struct.pack("<QQI20x", 0, 0, 4096)
    bodies = {
        Opcode.LOOKUP: b"etc\0",
        Opcode.GETXATTR: struct.pack("<I4x", 100) + b"user.note\0",
        Opcode.LISTXATTR: struct.pack("<I4x", 100),
        Opcode.READ: read,
        Opcode.READDIR: read,
        Opcode.READDIRPLUS: read,
        Opcode.WRITE: struct.pack("<QQI20x", 0, 4096, 4096) + bytes(4096),
        Opcode.FALLOCATE: struct.pack("<QQQII", 0, 0, 4096, 3, 0),
    }
    return [REQUEST.pack(opcode, 1) + bodies.get(opcode, b"") for opcode in Opcode]


def answer_requests(data: bytes) -> None:
    """Answer the first request in the bytes over each of the things that are served."""
    opcode, node = REQUEST.unpack_from(data.ljust(REQUEST.size, b"\0"))
    body = memoryview(data[REQUEST.size :])
    device = PlainDevice(metadata()[0].ljust(4 << 16, b"\0"))
    store = ScratchStore(MemoryFile(1 << 16), 16, _NoRoom())
    file = FileOperations(device, ChunkPrefetcher())
    for operations in (TreeOperations(device), file, BlockFileOperations(store)):
        out = memoryview(bytearray(OUT_BYTES))
        try:
            assert operations.answer(opcode, node, body, out) <= OUT_BYTES
        except (FuseError, MetadataError, struct.error):
            # All of them become an error number at the border.
            continue


def tars() -> Sequence[bytes]:
    seeds = [(golden.HERE / golden.LAYERS[0]).read_bytes()]
    seeds += [make(9000, [(0, 512), (4096, 10)], bytes(522)) + END for make in FORMATS.values()]
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            tar.addfile(tarfile.TarInfo("a/b"))
            link = tarfile.TarInfo("a/c")
            link.type, link.linkname = tarfile.LNKTYPE, "a/b"
            tar.addfile(link)
            tar.addfile(tarfile.TarInfo("a/.wh.d"))
        seeds.append(buffer.getvalue())
    return seeds


def seal_tar(data: bytes) -> None:
    """Scan a layer, merge it over itself, and write the metadata."""
    tree = Tree()
    for layer in range(2):
        tree.begin_layer(layer << 24)
        scanner = TarScanner()
        for start in range(0, len(data), 5000):
            for entry in scanner.feed(data[start : start + 5000]):
                tree.add(entry)
        scanner.close()
    written = write_metadata(tree.root, data_bytes=2 << 24, align_bytes=512)
    MetadataReader.of_bytes(written)


def initdata() -> Sequence[bytes]:
    return [
        text_of(FULL).encode(),
        text_of('[rootfs]\nwritable = ["memory"]\nmemory_bytes = 65536000\n').encode(),
    ]


def read_annotation(data: bytes) -> None:
    InitData.parse(decode_annotation(data.decode("utf-8", "surrogateescape")))


def launches() -> Sequence[bytes]:
    mounts = (ApprovedMount("/data", "bind"),)
    return [LaunchConfiguration(("a", "b"), ("PATH=/bin",), "/", "0:0", "sha256:00", True, mounts).to_bytes()]


def specifications() -> Sequence[bytes]:
    process = {"args": ["sh"], "env": ["A=b"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "terminal": False}
    mount = {"destination": "/data", "type": "bind", "source": "/host", "options": ["rbind", "ro"]}
    annotations = {
        "enclave-cc.dev/rootfs-writable": "scratch",
        "enclave-cc.dev/rootfs-writable-size.c": "512Mi",
        "io.kubernetes.cri.container-name": "c",
    }
    memory = {"resources": {"memory": {"limit": 1 << 30}}}
    document = {"ociVersion": "1.1.0", "process": process, "mounts": [mount], "annotations": annotations}
    return [json.dumps(document | {"linux": memory}).encode()]


def read_specification(data: bytes) -> None:
    RootfsWish.read(RuntimeSpec.parse(data).annotations)


TARGETS = (
    Target("manifest", manifests, open_sealed, (ManifestRefusedError, UnknownFormatError)),
    Target("manifest-body", manifest_bodies, open_authentic, (ManifestRefusedError,)),
    Target("erofs", metadata, read_metadata, (MetadataError,)),
    Target("fuse", requests, answer_requests, ()),
    Target("tar", tars, seal_tar, (TarError, LayerError, ImageTooLargeError)),
    Target("initdata", initdata, InitData.parse, (InvalidInputError,)),
    Target(
        "annotation",
        lambda: [encode_annotation(text).encode() for text in initdata()],
        read_annotation,
        (InvalidInputError,),
    ),
    Target("launch", launches, LaunchConfiguration.parse, (InvalidInputError,)),
    Target("specification", specifications, read_specification, (InvalidInputError,)),
)
