"""
A real server image without Docker: redis from Debian's packages with its closure of libraries.

Four layers as a Dockerfile would make them: libraries (gzip), the server (zstd), the owner's configuration
and data, and one that only removes things. Nothing is installed on the machine; packages are unpacked in
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.demo.deb_archive import files
from enclave_cc.demo.debian_packages import closure, download
from enclave_cc.demo.image_plan import Compression, ImagePlan, LayerPlan
from enclave_cc.demo.layer_tar import LayerTar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SERVER_PACKAGES = ("redis-server", "redis-tools")
USER = "redis"
UID = 999
GREETING_KEY = "greeting"
# Lies in a lower layer and is removed by the topmost: it must not be seen in the container.
REMOVED_FILE = "etc/secret.txt"
_DATA = "var/lib/redis"


def server_image(cache: Path, *, port: int, marker: str) -> ImagePlan:
    """Download what `cache` lacks and plan the image; its data set holds `marker` under GREETING_KEY."""
    packages = closure(SERVER_PACKAGES)
    paths = download(packages, cache)
    server = [path for path in paths if path.name.split("_")[0] in SERVER_PACKAGES]
    libraries = [path for path in paths if path not in server]
    return ImagePlan(
        layers=(
            LayerPlan(_unpacked(libraries, base=True), Compression.GZIP),
            LayerPlan(_unpacked(server), Compression.ZSTD),
            LayerPlan(_configuration(port, marker), Compression.GZIP),
            LayerPlan(_removals(), Compression.NONE),
        ),
        entrypoint=("/usr/bin/redis-server", "/etc/redis/redis.conf"),
        env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"),
        user=f"{USER}:{USER}",
        working_dir=f"/{_DATA}",
    )


def _unpacked(packages: Iterable[Path], *, base: bool = False) -> bytes:
    layer = LayerTar()
    if base:
        layer.directory("tmp", mode=0o1777)
        layer.file(
            "etc/passwd",
            f"root:x:0:0:root:/root:/bin/false\n{USER}:x:{UID}:{UID}::/{_DATA}:/bin/false\n".encode(),
        )
        layer.file("etc/group", f"root:x:0:\n{USER}:x:{UID}:\n".encode())
        layer.file(REMOVED_FILE, b"left behind by a build step\n", mode=0o600)
    for package in packages:
        layer.entries(files(package.read_bytes()))
    return layer.finish()


def _configuration(port: int, marker: str) -> bytes:
    """Make the owner's layer: settings, and a data set that the server loads at start (append-only file)."""
    settings = (
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        "daemonize no",
        f"dir /{_DATA}",
        "appendonly yes",
        'save ""',
        "",
    )
    commands = (("SELECT", "0"), ("SET", GREETING_KEY, marker))
    layer = LayerTar()
    layer.file("etc/redis/redis.conf", "\n".join(settings).encode())
    layer.directory(_DATA, mode=0o750, owner=UID)
    layer.directory(f"{_DATA}/appendonlydir", mode=0o755, owner=UID)
    for name, content in {
        "appendonly.aof.1.base.aof": b"".join(_resp(command) for command in commands),
        "appendonly.aof.1.incr.aof": b"",
        "appendonly.aof.manifest": (
            b"file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        ),
    }.items():
        layer.file(f"{_DATA}/appendonlydir/{name}", content, owner=UID)
    return layer.finish()


def _removals() -> bytes:
    layer = LayerTar()
    layer.whiteout("usr/share/doc")
    layer.whiteout(REMOVED_FILE)
    return layer.finish()


def _resp(words: tuple[str, ...]) -> bytes:
    """One command as redis writes it (RESP array of bulk strings)."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words]
    return b"".join(parts)
