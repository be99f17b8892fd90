"""The golden image is mounted, whichever way, and shows what its layers say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.enclave.rootfs.conftest import BINDING, SealedFixture
from tests.formats.sealed.golden import write

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector


def golden_image(directory) -> SealedFixture:
    """Make the sealed image that the vectors describe."""
    vectors = json.loads((write.HERE / "vectors.json").read_text())
    directory.mkdir()
    (directory / "manifest.sealed").write_bytes((write.HERE / "manifest.sealed").read_bytes())
    for number, blob in enumerate(vectors["blobs"]):
        plaintext = write.padded((write.HERE / blob["plaintext"]).read_bytes())
        (directory / blob["name"]).write_bytes(write.seal(number, plaintext))
    fdk = Secret(bytes.fromhex(vectors["fdk"]))
    return SealedFixture(directory, fdk, bytes.fromhex(vectors["manifest_sha256"]))


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
def test_the_golden_image_is_mounted(tmp_path, in_private_mounts, backend):
    image = golden_image(tmp_path / "image")
    parts = (write.BINDING["pod"], write.BINDING["container"], write.BINDING["image_digest"])
    binding = replace(BINDING, pod_uid=parts[0], container_id=parts[1], image_digest=parts[2])
    sparse = bytearray(300_000)
    data = (bytes(range(1, 252)) * 20)[:4799]
    for start, length in ((0, 4096), (65_536, 700), (200_000, 3)):
        sparse[start : start + length], data = data[:length], data[length:]

    def body():
        mounted = image.open(tmp_path / "m", binding=binding, selector=BackendSelector([backend]))
        root = mounted.mountpoint
        assert sorted(path.name for path in root.iterdir()) == [
            "bin",
            "dev",
            "etc",
            "names",
            "opaque",
            "real",
        ]
        assert (root / "etc/same-as-hostname").read_bytes() == b"golden\n"
        assert (root / "etc/hostname").stat().st_mtime_ns == -1_250_000_001
        assert (root / "bin/large").read_bytes() == bytes(range(1, 252)) * 300
        assert (root / "real").read_bytes() == sparse
        assert len(list((root / "names").iterdir())) == 42
        mounted.close()

    in_private_mounts(body)
