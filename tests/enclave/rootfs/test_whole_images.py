"""
Whole images, up to a gigabyte of Debian's packages, look mounted as umoci unpacks them, with no difference.

They take minutes, so they are asked for: ``make test-images``. Images are kept for the next time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from bench.rootfs_images import LARGE, SMALL, image
from isal import igzip
from tests.enclave.rootfs.conftest import BINDING, SealedFixture
from tests.enclave.rootfs.snapshot import snapshot
from tests.enclave.rootfs.test_fidelity import require_checker
from tests.enclave.rootfs.test_umoci import look_through

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.device import VirtualDevice
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector
from enclave_cc.enclave.rootfs.mounting.released_manifest import read_released_manifest
from enclave_cc.enclave.rootfs.sealing.writer import SealedImageWriter
from enclave_cc.formats.oci.media_types import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rootfs_images import BuiltImage

WITHIN_S = 900
PIECE_BYTES = 1 << 20

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(WITHIN_S),
    pytest.mark.skipif("ENCLAVE_CC_WHOLE_IMAGES" not in os.environ, reason="takes minutes: make test-images"),
    pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed"),
    pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this is no Debian"),
]

IMAGES = {"small": SMALL, "compilers": ("base", "tools"), "large": LARGE}


@pytest.fixture(params=IMAGES)
def built(request) -> BuiltImage:
    return image(request.param, IMAGES[request.param], Compression.GZIP)


@pytest.fixture
def sealed(built, tmp_path) -> SealedFixture:
    fdk = Secret.random(32)
    writer = SealedImageWriter(tmp_path / "image", fdk=fdk, binding=BINDING)
    for layer in built.layout.read_manifest(built.layout.find()).layers:
        writer.add_layer(pieces(built, layer.digest))
    return SealedFixture(tmp_path / "image", fdk, writer.finish().manifest_sha256)


def pieces(built, digest) -> Iterator[bytes]:
    with built.layout.open_blob(digest) as blob, igzip.open(blob, "rb") as plain:
        while piece := plain.read(PIECE_BYTES):
            yield piece


def test_whole_images_look_as_umoci_unpacks_them(*, tmp_path, built, sealed, in_private_mounts):
    since_ns = time.time_ns()
    source = f"{built.layout.directory}:latest"
    subprocess.run(
        ["umoci", "unpack", "--image", source, tmp_path / "bundle"], check=True, capture_output=True
    )
    expected = snapshot(tmp_path / "bundle/rootfs", with_directory_links=False)
    assert len(expected) > 5000

    def body():
        signal.alarm(WITHIN_S)
        for backend in PREFERENCE:
            mounted = sealed.open(tmp_path / backend, selector=BackendSelector([backend]))
            look_through(mounted.mountpoint, expected, since_ns)
            mounted.close()

    in_private_mounts(body)


def test_the_reference_checker_accepts_whole_images(tmp_path, sealed):
    require_checker()
    manifest = read_released_manifest(sealed.directory, sealed.fdk, sealed.manifest_sha256, BINDING)
    device = VirtualDevice.of_directory(sealed.directory, manifest, on_poison=lambda finding: None)
    reader, piece = device.reader(), memoryview(bytearray(PIECE_BYTES))
    with (tmp_path / "plain").open("wb") as file:
        for start in range(0, device.size, PIECE_BYTES):
            file.write(piece[: reader.read_into(start, piece)])
    device.close()
    command = ["fsck.erofs", f"--extract={tmp_path / 'extracted'}", "--preserve", tmp_path / "plain"]
    subprocess.run(command, check=True, capture_output=True)
