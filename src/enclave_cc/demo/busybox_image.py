"""
Two small images from Debian's static busybox: a workload that says who it is, and the pod's pause container.

The workload carries a large file that nothing reads at start: the demo later flips a byte of it in its
sealed form.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from enclave_cc.demo.image_plan import Compression, ImagePlan, LayerPlan
from enclave_cc.demo.layer_tar import LayerTar

if TYPE_CHECKING:
    from pathlib import Path

APPLETS = (
    "sh",
    "cat",
    "echo",
    "env",
    "head",
    "id",
    "ls",
    "md5sum",
    "pwd",
    "sha256sum",
    "sleep",
    "true",
    "wc",
)
NOBODY = 65534
GREETING = "hello from inside"
MARKER_FILE = "srv/data/marker.txt"
UNTOUCHED_FILE = "srv/data/untouched.bin"
# Large enough that no read-ahead of its neighbours brings all of it into memory.
UNTOUCHED_BYTES = 16 << 20
_WORKLOAD = """#!/bin/sh
echo "greeting: $GREETING; uid: $(id -u); directory: $PWD; $(cat marker.txt)"
trap 'exit 0' TERM INT
while :; do sleep 1 & wait $!; done
"""
_PAUSE = """#!/bin/sh
trap 'exit 0' TERM INT
while :; do sleep 3600 & wait $!; done
"""


def workload_image(busybox: Path, *, marker: str) -> ImagePlan:
    """Plan the small workload: programs in one layer, data in another."""
    data = LayerTar()
    data.directory("srv/data")
    data.file(MARKER_FILE, marker.encode() + b"\n")
    data.file(UNTOUCHED_FILE, pseudo_random(UNTOUCHED_BYTES, seed=marker))
    return ImagePlan(
        layers=(
            LayerPlan(_programs(busybox, "usr/local/bin/greet", _WORKLOAD), Compression.GZIP),
            LayerPlan(data.finish(), Compression.ZSTD),
        ),
        entrypoint=("/bin/sh", "/usr/local/bin/greet"),
        env=("PATH=/usr/local/bin:/usr/bin:/bin", f"GREETING={GREETING}"),
        user=f"{NOBODY}:{NOBODY}",
        working_dir="/srv/data",
    )


def pause_image(busybox: Path) -> ImagePlan:
    """Plan what holds a pod's namespaces: waits, reaps, ends on TERM. Plain: nothing in it is anybody's."""
    return ImagePlan(
        layers=(LayerPlan(_programs(busybox, "pause", _PAUSE), Compression.GZIP),),
        entrypoint=("/bin/sh", "/pause"),
        env=("PATH=/bin",),
    )


def pseudo_random(size_bytes: int, *, seed: str) -> bytes:
    """Incompressible bytes that are the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size_bytes)


def _programs(busybox: Path, script: str, text: str) -> bytes:
    layer = LayerTar()
    layer.file("bin/busybox", busybox.read_bytes(), mode=0o755)
    for applet in APPLETS:
        layer.symlink(f"bin/{applet}", "busybox")
    layer.file(
        "etc/passwd", f"root:x:0:0:root:/:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}:nobody:/:/bin/sh\n".encode()
    )
    layer.file("etc/group", f"root:x:0:\nnogroup:x:{NOBODY}:\n".encode())
    layer.directory("tmp", mode=0o1777)
    layer.file(script, text.encode(), mode=0o755)
    return layer.finish()
