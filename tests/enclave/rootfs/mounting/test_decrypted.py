"""An image decrypted to memory is whole and verified before it is mounted, or is not mounted at all."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_cc.core.errors import EnclaveCcError, RefusedError, UnavailableError
from enclave_cc.enclave.rootfs.mounting import decrypted
from enclave_cc.enclave.rootfs.mounting.backend import Backend, BackendSelector
from enclave_cc.enclave.rootfs.mounting.decrypted import DecryptedBackend
from enclave_cc.formats.rootfs_options import DEFAULT_OPTIONS, Writable
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES

pytestmark = pytest.mark.root

OPTIONS = replace(DEFAULT_OPTIONS, decrypt_to_memory=True)
WAYS = {
    DecryptedBackend.EROFS_MEMORY: BackendSelector(),
    DecryptedBackend.FUSE_TREE_MEMORY: BackendSelector([Backend.FUSE_TREE]),
}


class Alarm:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


def own_mounts(base: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def image_of(seal, archive):
    """Seal one layer of these files."""
    return lambda **files: seal(archive(**files))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("writable", Writable)
def test_what_was_sealed_is_read_without_the_sealed_files(
    tmp_path, image_of, in_private_mounts, way, writable
):
    contents = {f"f{number}": os.urandom(400_000) for number in range(8)}
    sealed = image_of(**contents)

    def body():
        before = descriptors()
        options = replace(OPTIONS, writable=writable, writable_bytes=64 << 20)
        mounted = sealed.open(tmp_path / "m", options=options, selector=WAYS[way])
        assert mounted.backend is way
        shutil.rmtree(sealed.directory)
        for name, expected in contents.items():
            assert (mounted.mountpoint / name).read_bytes() == expected
        (mounted.mountpoint / "f0").write_bytes(b"changed")
        assert not list((tmp_path / "m" / "work" / "decrypted").iterdir())
        mounted.close()
        assert not own_mounts(tmp_path)
        assert not list((tmp_path / "m" / "work").iterdir())
        assert threading.active_count() == 1
        assert descriptors() <= before

    in_private_mounts(body)


def test_nothing_is_served_where_the_kernel_reads_by_itself(tmp_path, image_of, in_private_mounts):
    sealed = image_of(a=b"a")

    def body():
        mounted = sealed.open(tmp_path / "m", options=OPTIONS)
        assert threading.active_count() == 1
        assert not [line for line in own_mounts(tmp_path) if "fuse" in line]
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [(0, 0, "metadata: chunk 0 "), (1, 44, "layer 1: chunk 44 ")])
def test_one_changed_bit_anywhere_is_refused_before_the_mount(
    tmp_path, image_of, in_private_mounts, way, place
):
    sealed = image_of(a=os.urandom(3 << 20))
    blob, chunk, region = place
    path = sealed.blobs[blob]
    data = bytearray(path.read_bytes())
    data[chunk * STRIDE_BYTES + 99] ^= 1
    path.write_bytes(data)

    def body():
        alarm = Alarm()
        with pytest.raises(RefusedError) as caught:
            sealed.open(tmp_path / "m", options=OPTIONS, selector=WAYS[way], on_poison=alarm)
        assert caught.value.code == "sealed-chunk-refused"
        assert alarm.rang.wait(5)
        assert alarm.findings[0].actual.startswith(region)
        assert not own_mounts(tmp_path)
        assert not list((tmp_path / "m" / "work").iterdir())

    in_private_mounts(body)


def test_an_image_of_just_the_allowed_size_is_taken_and_a_larger_one_refused(
    tmp_path, image_of, in_private_mounts
):
    sealed = image_of(a=os.urandom(300_000))
    size = sum(path.stat().st_size // STRIDE_BYTES * 65536 for path in sealed.blobs)

    def body():
        options = replace(OPTIONS, decrypt_bytes_limit=size)
        sealed.open(tmp_path / "fits", options=options).close()
        with pytest.raises(RefusedError) as caught:
            sealed.open(tmp_path / "m", options=replace(options, decrypt_bytes_limit=size - 1))
        assert caught.value.code == "rootfs-too-large-to-decrypt"
        (finding,) = caught.value.findings
        assert (finding.expected, finding.actual) == (f"images of at most {size - 1} bytes", f"{size} bytes")
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


def test_a_host_without_room_is_an_error_and_no_signal(tmp_path, image_of, in_private_mounts, monkeypatch):
    sealed = image_of(a=os.urandom(1 << 20))
    real = decrypted.mount

    def small(source, target, kind, flags, options):
        size, rest = options.split(",", 2)[1:]
        assert size.startswith("size=")
        real(source, target, kind, flags, f"mode=0700,size=65536,{rest}")

    monkeypatch.setattr(decrypted, "mount", small)

    def body():
        with pytest.raises(EnclaveCcError) as caught:
            sealed.open(tmp_path / "m", options=OPTIONS)
        assert isinstance(caught.value, UnavailableError)
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


@pytest.mark.parametrize("backend", [Backend.EROFS_FILE, Backend.FUSE_TREE])
def test_memory_that_could_be_swapped_is_locked_before_anything_is_in_it(
    tmp_path, image_of, in_private_mounts, monkeypatch, backend
):
    sealed = image_of(a=os.urandom(1 << 20))
    real = decrypted.mount

    def without_noswap(source, target, kind, flags, options):
        if "noswap" in options:
            raise OSError(errno.EINVAL, "what is that?")
        real(source, target, kind, flags, options)

    def locked_kib() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmLck"))

    before = []
    real_open = decrypted._open_parts

    def open_parts(device, plaintext, starts):
        before.append(locked_kib())
        real_open(device, plaintext, starts)

    monkeypatch.setattr(decrypted, "mount", without_noswap)
    monkeypatch.setattr(decrypted, "_open_parts", open_parts)

    def body():
        mounted = sealed.open(tmp_path / "m", options=OPTIONS, selector=BackendSelector([backend]))
        assert min(before) >= 1024
        assert locked_kib() >= 1024
        assert len((mounted.mountpoint / "a").read_bytes()) == 1 << 20
        mounted.close()

    in_private_mounts(body)
