"""Images of Debian's own packages, whose archives GNU tar wrote, look mounted as umoci unpacks them."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from tests.enclave.rootfs.snapshot import snapshot
from tests.enclave.rootfs.test_umoci import look_through
from tests.enclave.rootfs.umoci import unpack

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed"),
    pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this is no Debian"),
]

IMAGES = {
    "base": ["base-files", "libc6", "bash", "coreutils"],
    "network": ["base-files", "libcap2-bin", "iputils-ping", "ca-certificates"],
    "editor": ["libc6", "vim-tiny", "vim-common", "tzdata"],
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_debian_packages_look_as_umoci_unpacks_them(*, tmp_path, seal, in_private_mounts, name):
    command = ["apt-get", "download", "-qq", *IMAGES[name]]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("apt-get cannot download packages here")
    packages = [next(tmp_path.glob(f"{package}_*.deb")) for package in IMAGES[name]]
    layers = [subprocess.check_output(["dpkg-deb", "--fsys-tarfile", path]) for path in packages]
    since_ns = time.time_ns()
    expected = snapshot(unpack(tmp_path, layers), with_directory_links=False)
    assert len(expected) > 100
    sealed = seal(*layers)

    def body():
        mounted = sealed.open(tmp_path / "m")
        look_through(mounted.mountpoint, expected, since_ns)
        mounted.close()

    in_private_mounts(body)
