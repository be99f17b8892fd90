"""Random trees look through the kernel as GNU tar unpacks them: an independent reader of the same bytes."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.enclave.rootfs.snapshot import snapshot
from tests.formats.tar.sparse_archives import END, FORMATS

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.tree import Tree
from enclave_cc.formats.tar.scanner import TarScanner

if TYPE_CHECKING:
    from pathlib import Path

SIZES = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 1_100_000]
CAPABILITY = "\x01\0\0\x02\0\x20\0\0" + "\0" * 12


def random_name(random_) -> str:
    alphabet = "abcxyz.-_ \\'\"ü漢"
    name = "".join(random_.choice(alphabet) for _ in range(random_.choice([1, 3, 8, 20, 60]))).strip(" ")
    return f"{name}{random_.randrange(10**6)}"


def random_archive(seed: int, tar_format: int) -> bytes:
    random_ = random.Random(seed)
    directories, files = [""], []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        root = tarfile.TarInfo(".")
        root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o755, 1_000_000_000
        tar.addfile(root)
        for number in range(220):
            name = random_.choice(directories) + random_name(random_)
            info = tarfile.TarInfo(name)
            info.mode = random_.choice([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600, 0])
            info.uid, info.gid = (
                random_.choice([0, 1, 1000, 65534, 4_000_000_000]),
                random_.choice([0, 100, 3 << 30]),
            )
            info.mtime = random_.choice([0, 1, -1, -100_000, 1_700_000_000, 2_200_000_000])
            data = b""
            if tar_format == tarfile.PAX_FORMAT:
                # Halves are exact in the float that tarfile takes.
                info.mtime += random_.choice([0, 0.5, 0.25])
                info.pax_headers = random_xattrs(random_)
            match random_.choice("ffffddlhpc" if number else "f"):
                case "f":
                    size = random_.choice(SIZES if number % 20 == 0 else SIZES[:8])
                    info.size, data = size, random_.randbytes(size)
                    files.append(name)
                case "d":
                    info.type, info.mode = tarfile.DIRTYPE, info.mode | 0o700
                    directories.append(name + "/")
                case "l":
                    info.type, info.mode = tarfile.SYMTYPE, 0o777
                    info.linkname = "/".join([random_name(random_)] * random_.choice([1, 5, 40]))
                    info.pax_headers = {}
                case "h":
                    info.type, info.linkname, info.pax_headers = tarfile.LNKTYPE, random_.choice(files), {}
                case "p":
                    info.type, info.pax_headers = tarfile.FIFOTYPE, {}
                case "c":
                    info.type = random_.choice([tarfile.CHRTYPE, tarfile.BLKTYPE])
                    info.devmajor, info.devminor = random_.choice([(1, 3), (259, 70_000), (4095, 1 << 19)])
                    info.pax_headers = {}
            tar.addfile(info, io.BytesIO(data))
        for number in range(300):
            tar.addfile(tarfile.TarInfo(f"crowd/{'x' * (number % 200)}{number}"))
    return buffer.getvalue()


def random_xattrs(random_) -> dict[str, str]:
    return random_.choice(
        [
            {},
            {},
            {"SCHILY.xattr.user.note": "value"},
            {"SCHILY.xattr.user.big": "v" * random_.choice([10, 300, 1000]), "SCHILY.xattr.trusted.t": "t"},
            {"SCHILY.xattr.security.capability": CAPABILITY},
        ]
    )


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("seed", range(3))
def test_trees_look_as_gnu_tar_unpacks_them(*, tmp_path, seal, in_private_mounts, seed, tar_format, backend):
    if not shutil.which("tar"):
        pytest.skip("GNU tar is not installed")
    data = random_archive(seed, tar_format)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    options = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
        "--delay-directory-restore",
        "-xpf",
        "-",
    ]
    subprocess.run(["tar", *options, "-C", unpacked], input=data, check=True, capture_output=True)
    sealed = seal(data)

    def body():
        expected = snapshot(unpacked, with_directory_links=True)
        # A directory that the archive only implies has the time of unpacking there.
        implied = [name for name in expected if name == "crowd"]
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        for root, with_links in ((tmp_path / "m/work/lower", True), (mounted.mountpoint, False)):
            actual = snapshot(root, with_directory_links=with_links)
            assert actual.keys() == expected.keys()
            for name, value in actual.items():
                wanted = list(expected[name])
                wanted[2] = value[2] if name in implied else wanted[2]
                wanted[3] = value[3] if value[3] is None else wanted[3]
                assert (name, *value) == (name, *wanted)
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("seed", [7, 8])
def test_the_reference_checker_accepts_the_image(tmp_path, seed):
    require_checker()
    check_and_extract(tmp_path, random_archive(seed, tarfile.PAX_FORMAT))


@pytest.mark.parametrize("version", sorted(FORMATS))
def test_the_reference_checker_extracts_sparse_files(tmp_path, version):
    require_checker()
    random_ = random.Random(version)
    segments = [(0, 700), (1024, 512), (9000, 1), (20_480, 4096), (30_000, 12_288), (1 << 30, 5)]
    data = random_.randbytes(sum(length for _, length in segments))
    size = (1 << 30) + 100
    extracted = check_and_extract(tmp_path, FORMATS[version](size, segments, data) + END)
    (path,) = extracted.iterdir()
    assert path.stat().st_size == size
    with path.open("rb") as file:
        for offset, length in segments:
            # Zeros on either side show that nothing else of the archive does.
            expected, data = data[:length] + bytes(3), data[length:]
            assert os.pread(file.fileno(), length + 3, offset) == expected


def require_checker() -> None:
    if not shutil.which("fsck.erofs"):
        pytest.skip("fsck.erofs is not installed")
    version = subprocess.run(["fsck.erofs", "-V"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+", version.stdout + version.stderr)[0]
    if tuple(int(part) for part in number.split(".")) < (1, 7):
        pytest.skip(f"fsck.erofs {number} knows only blocks of a page: 1.7 is needed")


def check_and_extract(tmp_path: Path, data: bytes) -> Path:
    data += bytes(-len(data) % CHUNK_BYTES)
    tree, scanner = Tree(), TarScanner()
    tree.begin_layer(0)
    for entry in scanner.feed(data):
        tree.add(entry)
    metadata = write_metadata(tree.root, data_bytes=len(data), align_bytes=CHUNK_BYTES)
    (tmp_path / "image").write_bytes(metadata + data)
    target = tmp_path / "extracted"
    command = ["fsck.erofs", f"--extract={target}", "--no-preserve", tmp_path / "image"]
    subprocess.run(command, check=True, capture_output=True)
    return target
