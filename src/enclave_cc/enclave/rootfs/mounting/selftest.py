"""
Try out whether a refused chunk stays refused all the way up to a reader.

A tiny sealed image is built in memory, one of its chunks is damaged, and a read spans it. The kernel
must answer with an error, or with less; a single byte that was not sealed fails the test.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.device import Segment, VirtualDevice
from enclave_cc.enclave.rootfs.device.sources import MemorySource
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, ChunkOpener, ChunkSealer, Octets
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.manifest import KEY_BYTES
from enclave_cc.formats.sealed.node import Child, Node, directory_children

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from enclave_cc.core.findings import Finding
    from enclave_cc.enclave.rootfs.fuse.server import Device

    # Mounts a device's tree at the first path; may serve the device itself at the second.
    MountTree: TypeAlias = Callable[[Device, Path, Path, ExitStack], None]

_NAME: Final = "probe"
_CHUNKS: Final = 4
_DAMAGED: Final = 1
# No zeros: those are what a careless kernel would make up.
_PATTERN: Final = b"sealed chunk pattern" * (CHUNK_BYTES // 20 + 1)


class SelfTestError(Exception):
    """The kernel returned bytes that it must not have."""


def self_test(mount_tree: MountTree, work: Path, *, device: Device | None = None) -> None:
    """
    Mount a damaged image as a back end does, and read it.

    Raise ``OSError`` if it cannot be mounted, ``SelfTestError`` if the kernel cannot be trusted with
    it. Everything is unmounted again. ``device`` replaces the image, for tests of this test.
    """
    image, target = work / "selftest-image", work / "selftest-tree"
    with ExitStack() as cleanup:
        target.mkdir(mode=0o700)
        cleanup.callback(target.rmdir)
        mount_tree(device or damaged_device(), target, image, cleanup)
        if image.exists():
            _read_good_chunk(image, len(metadata()))
        else:
            _read_good_chunk(target / _NAME, 0)
        _judge(target / _NAME)


def plaintext() -> bytes:
    """Return what the probe holds."""
    return _PATTERN[:CHUNK_BYTES] * _CHUNKS


def metadata() -> bytearray:
    """Return the metadata of an image with the probe only."""
    root = Node(stat.S_IFDIR | 0o700)
    probe = Node(stat.S_IFREG | 0o600)
    probe.size = _CHUNKS * CHUNK_BYTES
    directory_children(root)[_NAME.encode()] = Child(probe, 0)
    return write_metadata(root, data_bytes=probe.size, align_bytes=CHUNK_BYTES)


def damaged_device() -> VirtualDevice:
    """Seal the image, and change one bit of one chunk of the probe."""
    tree, tree_opener = _sealed(metadata())
    probe, probe_opener = _sealed(plaintext())
    probe[_DAMAGED * len(probe) // _CHUNKS] ^= 1
    segments = (
        Segment(MemorySource(tree), tree_opener, 1),
        Segment(MemorySource(probe), probe_opener, _CHUNKS),
    )
    return VirtualDevice(segments, on_poison=_ignore)


def _sealed(data: Octets) -> tuple[bytearray, ChunkOpener]:
    key = Secret.random(KEY_BYTES)
    sealer = ChunkSealer(key)
    sealed = bytearray().join([bytes(part) for part in sealer.feed(data)])
    sealed += sealer.finish()
    return sealed, ChunkOpener(key)


def _read_good_chunk(path: Path, start: int) -> None:
    """
    Bring the first chunk of the probe into the page cache of what we serve, and only that.

    A read of the tree then finds its beginning and not its end: the case that needs care.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        if os.pread(fd, CHUNK_BYTES, start) != plaintext()[:CHUNK_BYTES]:
            raise SelfTestError("what is served differs from what was sealed")
    finally:
        os.close(fd)


def _judge(probe: Path) -> None:
    """Read across the damaged chunk, then at it, then behind it."""
    expected = plaintext()
    fd = os.open(probe, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start in (0, _DAMAGED * CHUNK_BYTES, (_DAMAGED + 1) * CHUNK_BYTES):
            data = _read(fd, len(expected) - start, start)
            if data and (start + len(data) > _DAMAGED * CHUNK_BYTES or not expected.startswith(data)):
                raise SelfTestError("the kernel makes up data for what cannot be read")
    finally:
        os.close(fd)


def _read(fd: int, size: int, offset: int) -> bytes:
    """Return what the kernel gives, nothing if it reports an error."""
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _ignore(_finding: Finding) -> None:
    """Nobody runs on this image."""
