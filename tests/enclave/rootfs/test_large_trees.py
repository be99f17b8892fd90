"""Many files, large directories and files beyond 4 GiB come back from the kernel, whichever way it mounts."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from functools import partial

import pytest
from tests.formats.tar.sparse_archives import END, octal, summed

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.node import Child, Node, directory_children

pytestmark = pytest.mark.root

ENTRIES = 200_000
CROWD = 50_000
# One write of this size is larger than all numbers of 32 bits, and so is where the second file begins.
LARGE = (5 << 30) + 123


def empty_file(name: bytes) -> bytes:
    """Write an entry by hand: the archiver of the standard library would take longer than all the rest."""
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + octal(0) + octal(1) + bytes(8) + b"0"
    return summed(head + bytes(100) + b"ustar\x0000".ljust(255, b"\0"))


def names() -> list[bytes]:
    crowd = [b"crowd/%06d" % number for number in range(CROWD)]
    return crowd + [b"d%03d/%06d" % (number % 500, number) for number in range(ENTRIES - CROWD)]


def test_an_image_of_200_000_entries_is_sealed_and_mounted(tmp_path, seal, in_private_mounts):
    wanted = names()
    image = seal(b"".join(map(empty_file, wanted)) + END)

    def look(root: str) -> None:
        found = sorted(
            os.path.relpath(os.path.join(top, name), root).encode()  # noqa: PTH118 - 200 000 paths
            for top, _directories, files in os.walk(root)
            for name in files
        )
        assert found == sorted(wanted)
        assert os.stat(f"{root}/crowd/{CROWD - 1:06}").st_mtime == 1  # noqa: PTH116
        assert not os.path.exists(f"{root}/crowd/{CROWD:06}")  # noqa: PTH110

    def body(backend):
        mounted = image.open(tmp_path / backend, selector=BackendSelector([backend]))
        look(os.fspath(tmp_path / backend / "work/lower"))
        mounted.close()

    for backend in PREFERENCE:
        in_private_mounts(partial(body, backend))


class EndlessDevice:
    """Metadata, and behind them bytes that say where they are: as many as are wanted, stored nowhere."""

    opened_in_part = None

    def __init__(self, metadata: bytes, data_bytes: int):
        self.metadata = metadata
        self.size = len(metadata) + data_bytes

    def reader(self):
        return self

    def read_into(self, offset, out):
        count = max(0, min(len(out), self.size - offset))
        data = self.metadata[offset : offset + count]
        start = max(0, offset - len(self.metadata))
        out[:count] = data + pattern(start, count - len(data))
        return count


def pattern(start: int, size: int) -> bytes:
    first = start // 8
    words = b"".join(number.to_bytes(8, "big") for number in range(first, (start + size) // 8 + 1))
    return words[start - first * 8 :][:size]


@pytest.mark.parametrize("backend", PREFERENCE)
def test_files_beyond_4_gib_are_read_where_they_lie(tmp_path, in_private_mounts, backend):
    root = Node(stat.S_IFDIR | 0o755)
    second = LARGE + -LARGE % 512
    for name, address in ((b"first", 0), (b"second", second)):
        node = Node(stat.S_IFREG | 0o644)
        node.size, node.address = LARGE, address
        directory_children(root)[name] = Child(node, 0)
    data_bytes = -(-(second + LARGE) // CHUNK_BYTES) * CHUNK_BYTES
    metadata = write_metadata(root, data_bytes=data_bytes, align_bytes=CHUNK_BYTES)
    device = EndlessDevice(bytes(metadata), data_bytes)

    def body():
        target = tmp_path / "tree"
        target.mkdir()
        with ExitStack() as cleanup:
            backend.mount(device, target, tmp_path / "image", cleanup)
            for name, address in (("first", 0), ("second", second)):
                with (target / name).open("rb") as file:
                    assert os.fstat(file.fileno()).st_size == LARGE
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                    for start in (0, (1 << 31) - 100, (1 << 32) - 100, LARGE - 100):
                        expected = pattern(address + start, min(200, LARGE - start))
                        assert os.pread(file.fileno(), 200, start) == expected

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_directories_around_the_size_of_a_block_are_listed(tmp_path, in_private_mounts, backend):
    """A block has 512 bytes: one entry more, or one byte more in a name, opens the next."""
    root = Node(stat.S_IFDIR | 0o755)
    wanted = {}
    for count in (*range(20, 40), 64, 128, 129):
        for length in (4, 5, 200, 255):
            directory = Node(stat.S_IFDIR | 0o755)
            inside = [b"%03d" % number + b"n" * (length - 3) for number in range(count)]
            directory_children(directory).update({name: Child(Node(stat.S_IFREG), 0) for name in inside})
            wanted[f"{count}-{length}"] = inside
            directory_children(root)[f"{count}-{length}".encode()] = Child(directory, 0)
    metadata = bytes(write_metadata(root, data_bytes=0, align_bytes=CHUNK_BYTES))

    def body():
        target = tmp_path / "tree"
        target.mkdir()
        with ExitStack() as cleanup:
            backend.mount(EndlessDevice(metadata, 0), target, tmp_path / "image", cleanup)
            assert sorted(path.name for path in target.iterdir()) == sorted(wanted)
            for name, inside in wanted.items():
                assert sorted(os.listdir(os.fsencode(target / name))) == inside  # noqa: PTH208 - bytes
                for one in (inside[0], inside[-1]):
                    assert os.path.exists(os.fsencode(target / name) + b"/" + one)  # noqa: PTH110

    in_private_mounts(body)
