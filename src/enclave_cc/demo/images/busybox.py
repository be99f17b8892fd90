"""
Two small images from Debian's static busybox: a workload that says who it is, and the pod's pause container.

The workload carries a large file that nothing reads at start: the demo later flips a byte of it in its
sealed form.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.demo.images.plan import ImagePlan
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription
from enclave_cc.tenant.building.layers import LayerBuilder

if TYPE_CHECKING:
    from pathlib import Path

APPLETS: Final = (
    "sh",
    "cat",
    "dd",
    "df",
    "echo",
    "env",
    "head",
    "id",
    "ls",
    "md5sum",
    "pwd",
    "rm",
    "sha256sum",
    "sleep",
    "true",
    "wc",
)
NOBODY: Final = 65534
GREETING: Final = "hello from inside"
MARKER_FILE: Final = "srv/data/marker.txt"
UNTOUCHED_FILE: Final = "srv/data/untouched.bin"
# Larger than any read-ahead of its neighbours, smaller than what an ExecSync answer may hold.
UNTOUCHED_BYTES: Final = 8 << 20
_WORKLOAD: Final = """#!/bin/sh
echo "greeting: $GREETING; uid: $(id -u); directory: $PWD; $(cat marker.txt)"
trap 'exit 0' TERM INT
while :; do sleep 7200 & wait $!; done
"""
_PAUSE: Final = """#!/bin/sh
trap 'exit 0' TERM INT
while :; do sleep 3600 & wait $!; done
"""


def workload_image(busybox: Path, *, marker: str, variant: str = "genuine") -> ImagePlan:
    """
    Plan the small workload: programs in one layer, data in another.

    `variant` makes the configuration unique: containerd takes images with one configuration for one image.
    """
    data = LayerBuilder()
    data.file(MARKER_FILE, marker.encode() + b"\n")
    data.file(UNTOUCHED_FILE, pseudo_random(UNTOUCHED_BYTES, seed=marker))
    return ImagePlan(
        layers=(
            LayerInput(_programs(busybox, "usr/local/bin/greet", _WORKLOAD), Compression.GZIP),
            LayerInput(data, Compression.ZSTD),
        ),
        process=ProcessDescription(
            entrypoint=("/bin/sh", "/usr/local/bin/greet"),
            env=("PATH=/usr/local/bin:/usr/bin:/bin", f"GREETING={GREETING}", f"VARIANT={variant}"),
            user=f"{NOBODY}:{NOBODY}",
            working_dir="/srv/data",
        ),
    )


def pause_image(busybox: Path) -> ImagePlan:
    """Plan what holds a pod's namespaces: waits, reaps, ends on TERM. Plain: nothing in it is anybody's."""
    return ImagePlan(
        layers=(LayerInput(_programs(busybox, "pause", _PAUSE), Compression.GZIP),),
        process=ProcessDescription(entrypoint=("/bin/sh", "/pause"), env=("PATH=/bin",)),
    )


def pseudo_random(size_bytes: int, *, seed: str) -> bytes:
    """Incompressible bytes that are the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size_bytes)


def _programs(busybox: Path, script: str, text: str) -> LayerBuilder:
    accounts = f"root:x:0:0:root:/:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}:nobody:/:/bin/sh\n"
    layer = LayerBuilder()
    layer.file("bin/busybox", busybox, mode=0o755)
    for applet in APPLETS:
        layer.symlink(f"bin/{applet}", "busybox")
    layer.file("etc/passwd", accounts.encode())
    layer.file("etc/group", f"root:x:0:\nnogroup:x:{NOBODY}:\n".encode())
    layer.directory("tmp", mode=0o1777)
    layer.file(script, text.encode(), mode=0o755)
    return layer
