"""
Whatever the host does to a sealed image is refused with a finding that names the region; no byte is wrong.

Regions are the manifest (the image's header), the metadata, the data of layers and their tail, the last
chunk. Each act is done to each region, and read through each back end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.enclave.rootfs.conftest import BINDING
from tests.enclave.rootfs.tampering import (
    CHUNKS,
    FILES,
    LINKS,
    OTHER_LENGTH,
    REGIONS,
    SAME_LENGTH,
    blobs,
    flip,
    layers,
)

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, Backend, BackendSelector
from enclave_cc.formats.rootfs_options import RootfsOptions
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES

pytestmark = pytest.mark.root

BLOCK_BYTES = 4096
# Files that are open stay the same under another name.
IN_USE = sorted(SAME_LENGTH.keys() - {"swap blobs"} | {"drop the last chunk", "truncate"})
PLACES = {"first": 0, "inner": 1, "tail": CHUNKS - 1}


class Poisoning:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


def refusal(image, base: Path, **changes) -> tuple[str, str, str]:
    """Open what was tampered with; nothing stays mounted. Return code, rule and what was seen."""
    with pytest.raises(RefusedError) as caught:
        image.open(base, **changes)
    assert str(base) not in Path("/proc/self/mountinfo").read_text()
    (finding,) = caught.value.findings
    return caught.value.code, finding.rule, finding.actual


def failures(root: Path) -> int:
    """Read everything in small and in large pieces; assert that what comes is right, count what does not."""
    count = 0
    for name, target in LINKS.items():
        count += not reads_well(lambda name=name: str((root / name).readlink()), target)
    for name, expected in FILES.items():
        for size in (BLOCK_BYTES, len(expected)):
            for start in range(0, len(expected), size):

                def piece(name=name, size=size, start=start):
                    with (root / name).open("rb", buffering=0) as file:
                        return os.pread(file.fileno(), size, start)

                count += not reads_well(piece, expected[start : start + size])
    return count


def reads_well(read, expected: bytes | str) -> bool:
    """Tell whether everything came; what came must be right in any case."""
    try:
        actual = read()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    assert expected.startswith(actual)
    return len(actual) == len(expected)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_the_image_is_as_the_suite_needs_it(tmp_path, seal, in_private_mounts, backend):
    image = seal(*layers())
    assert [blob.stat().st_size // STRIDE_BYTES for blob in blobs(image)] == [CHUNKS] * len(REGIONS)

    def body():
        mounted = image.open(tmp_path / "m", selector=BackendSelector([backend]))
        assert failures(mounted.mountpoint) == 0
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("act", SAME_LENGTH)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("region", REGIONS)
def test_what_keeps_the_length_is_refused_by_the_tags(
    *, tmp_path, seal, in_private_mounts, region, place, act, backend
):
    image, older = seal(*layers()), seal(*layers(), name="older")
    SAME_LENGTH[act](image, blobs(image)[REGIONS[region]], PLACES[place], older)
    # When two blobs changed places, whichever is read first is named.
    suspects = tuple(REGIONS) if act == "swap blobs" else (region,)

    def body():
        poisoning = Poisoning()
        options = {"on_poison": poisoning, "selector": BackendSelector([backend])}
        refused = None
        try:
            mounted = image.open(tmp_path / "m", **options)
        except RefusedError as error:
            refused = error
        else:
            assert failures(mounted.mountpoint) > 0
            mounted.close()
        assert poisoning.rang.wait(5)
        (finding,) = poisoning.findings
        assert finding.rule == "rootfs.chunk"
        assert finding.actual.startswith(tuple(f"{suspect}: chunk " for suspect in suspects))
        if refused:
            assert (refused.code, refused.findings) == ("sealed-chunk-refused", (finding,))

    in_private_mounts(body)


@pytest.mark.parametrize("act", OTHER_LENGTH)
@pytest.mark.parametrize("region", REGIONS)
def test_what_changes_the_length_is_refused_before_anything_is_mounted(tmp_path, seal, region, act):
    image = seal(*layers())
    OTHER_LENGTH[act](image, blobs(image)[REGIONS[region]], CHUNKS - 1, None)
    code, rule, actual = refusal(image, tmp_path / "m")
    assert (code, rule) == ("sealed-blob-truncated", "rootfs.blob")
    assert actual.startswith(f"{region}: ")


@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("act", IN_USE)
@pytest.mark.parametrize("region", ["layer 1", "layer 2"])
def test_what_is_done_while_the_image_is_in_use_is_refused(
    *, tmp_path, seal, in_private_mounts, region, act, backend
):
    image, older = seal(*layers()), seal(*layers(), name="older")
    blob = blobs(image)[REGIONS[region]]

    def body():
        poisoning = Poisoning()
        mounted = image.open(tmp_path / "m", on_poison=poisoning, selector=BackendSelector([backend]))
        (SAME_LENGTH | OTHER_LENGTH)[act](image, blob, 1, older)
        assert failures(mounted.mountpoint) > 0
        assert poisoning.rang.wait(5)
        (finding,) = poisoning.findings
        assert finding.rule == "rootfs.chunk"
        assert finding.actual.startswith(f"{region}: chunk ")
        mounted.close()

    in_private_mounts(body)


IN_MEMORY = RootfsOptions(decrypt_to_memory=True)


@pytest.mark.parametrize("backend", [Backend.EROFS_LOOP, Backend.FUSE_TREE])
@pytest.mark.parametrize("act", SAME_LENGTH)
@pytest.mark.parametrize("region", REGIONS)
def test_an_image_that_is_decrypted_to_memory_is_refused_as_a_whole(
    *, tmp_path, seal, in_private_mounts, region, act, backend
):
    image, older = seal(*layers()), seal(*layers(), name="older")
    SAME_LENGTH[act](image, blobs(image)[REGIONS[region]], CHUNKS - 1, older)
    suspects = tuple(REGIONS) if act == "swap blobs" else (region,)

    def body():
        options = {"options": IN_MEMORY, "selector": BackendSelector([backend])}
        code, rule, actual = refusal(image, tmp_path / "m", **options)
        assert (code, rule) == ("sealed-chunk-refused", "rootfs.chunk")
        assert actual.startswith(tuple(f"{suspect}: chunk " for suspect in suspects))

    in_private_mounts(body)


@pytest.mark.parametrize("backend", [Backend.EROFS_LOOP, Backend.FUSE_TREE])
def test_what_is_done_after_an_image_was_decrypted_to_memory_means_nothing(
    tmp_path, seal, in_private_mounts, backend
):
    image = seal(*layers())

    def body():
        poisoning = Poisoning()
        options = {"options": IN_MEMORY, "selector": BackendSelector([backend])}
        mounted = image.open(tmp_path / "m", on_poison=poisoning, **options)
        for path in image.directory.iterdir():
            os.truncate(path, 0)
        assert failures(mounted.mountpoint) == 0
        mounted.close()
        assert not poisoning.findings

    in_private_mounts(body)


# The manifest is checked before anything is mounted: no back end has a part in it.

MAGIC_BYTES, VERSION_BYTES, NONCE_BYTES = 24, 4, 12
MANIFEST_PLACES = {
    "the magic": 0,
    "the version": MAGIC_BYTES + VERSION_BYTES - 1,
    "the nonce": MAGIC_BYTES + VERSION_BYTES,
    "the names": MAGIC_BYTES + VERSION_BYTES + NONCE_BYTES + 60,
    "the keys": -60,
    "the tag": -1,
}


def manifest_refusal(image, base: Path, **changes) -> str:
    code, rule, actual = refusal(image, base, **changes)
    assert (code, rule) == ("sealed-manifest-refused", "rootfs.manifest")
    return actual


def digest(image) -> bytes:
    return hashlib.sha256((image.directory / "manifest.sealed").read_bytes()).digest()


@pytest.mark.parametrize("place", MANIFEST_PLACES)
def test_a_flipped_bit_of_the_manifest_is_refused_by_its_digest(tmp_path, seal, place):
    image = seal()
    path = image.directory / "manifest.sealed"
    flip(path, MANIFEST_PLACES[place] % path.stat().st_size)
    assert manifest_refusal(image, tmp_path / "m") == digest(image).hex()


@pytest.mark.parametrize("place", MANIFEST_PLACES)
def test_a_flipped_bit_of_the_manifest_is_refused_by_itself_too(tmp_path, seal, place):
    image = seal()
    path = image.directory / "manifest.sealed"
    flip(path, MANIFEST_PLACES[place] % path.stat().st_size)
    code, rule, actual = refusal(image, tmp_path / "m", manifest_sha256=digest(image))
    assert rule == "rootfs.manifest"
    if place == "the version":
        assert (code, actual) == ("sealed-format-unknown", "the manifest has an unknown version")
    else:
        assert code == "sealed-manifest-refused"
        assert actual in {"this is no sealed manifest", "the manifest is not authentic here"}


@pytest.mark.parametrize("act", ["truncate", "cut off the tag", "extend", "empty", "huge"])
def test_a_manifest_of_another_length_is_refused(tmp_path, seal, act):
    image = seal()
    path = image.directory / "manifest.sealed"
    size = path.stat().st_size
    lengths = {"truncate": 50, "cut off the tag": size - 16, "extend": size + 1, "empty": 0, "huge": 1 << 40}
    os.truncate(path, lengths[act])
    manifest_refusal(image, tmp_path / "m")
    if act != "huge":
        manifest_refusal(image, tmp_path / "n", manifest_sha256=digest(image))


@pytest.mark.parametrize("act", ["remove", "pipe", "directory", "link", "device"])
def test_a_manifest_that_is_no_plain_file_is_refused(tmp_path, seal, act):
    image = seal()
    path = image.directory / "manifest.sealed"
    copy = path.rename(path.with_name("copy"))
    match act:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(copy)
        case "device":
            path.symlink_to("/dev/zero")
    manifest_refusal(image, tmp_path / "m")


def test_an_older_manifest_is_refused(tmp_path, seal):
    """Even one that was sealed under the same key for the same container, with all its blobs in place."""
    older, image = seal(*layers(), name="older"), seal(*layers())
    for path in older.directory.iterdir():
        (image.directory / path.name).write_bytes(path.read_bytes())
    image.fdk = older.fdk
    assert manifest_refusal(image, tmp_path / "m") == older.manifest_sha256.hex()


def test_the_manifest_of_another_image_is_refused(tmp_path, seal):
    other, image = seal(name="other"), seal(*layers())
    for path in other.directory.iterdir():
        (image.directory / path.name).write_bytes(path.read_bytes())
    assert manifest_refusal(image, tmp_path / "m") == other.manifest_sha256.hex()
    actual = manifest_refusal(image, tmp_path / "n", manifest_sha256=other.manifest_sha256)
    assert actual == "the manifest is not authentic here"


def test_another_key_is_refused(tmp_path, seal):
    actual = manifest_refusal(seal(), tmp_path / "m", fdk=Secret.random(32))
    assert actual == "the manifest is not authentic here"


@pytest.mark.parametrize("field", ["pod_uid", "container_id", "image_digest"])
def test_another_binding_is_refused(tmp_path, seal, field):
    binding = replace(BINDING, **{field: "another"})
    actual = manifest_refusal(seal(), tmp_path / "m", binding=binding)
    assert actual == "the manifest is not authentic here"


def test_blobs_behind_links_are_refused(tmp_path, seal):
    image = seal(*layers())
    blob = blobs(image)[1]
    copy = blob.rename(tmp_path / "copy")
    blob.symlink_to(copy)
    code, rule, actual = refusal(image, tmp_path / "m")
    assert (code, rule) == ("sealed-blob-truncated", "rootfs.blob")
    assert actual.startswith("layer 1: ")
