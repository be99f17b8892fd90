"""
A real server image without Docker: redis from Debian's packages with its closure of libraries.

Four layers as a Dockerfile would make them: libraries (gzip), the server (zstd), the owner's configuration
and data, and one that only removes things. Nothing is installed on the machine; packages are unpacked in
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.demo.images.deb_archive import files
from enclave_cc.demo.images.debian_packages import closure, download
from enclave_cc.demo.images.plan import ImagePlan
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription
from enclave_cc.tenant.building.layers import LayerBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from tarfile import TarInfo

SERVER_PACKAGES: Final = ("redis-server", "redis-tools")
USER: Final = "redis"
UID: Final = 999
GREETING_KEY: Final = "greeting"
# Lies in a lower layer and is removed by the topmost: it must not be seen in the container.
REMOVED_FILE: Final = "etc/secret.txt"
_DATA: Final = "var/lib/redis"


def server_image(cache: Path, *, port: int, marker: str) -> ImagePlan:
    """Download what `cache` lacks and plan the image; its data set holds `marker` under GREETING_KEY."""
    packages = closure(SERVER_PACKAGES, cache)
    paths = download(packages, cache)
    server = [path for path in paths if path.name.split("_")[0] in SERVER_PACKAGES]
    libraries = [path for path in paths if path not in server]
    return ImagePlan(
        layers=(
            LayerInput(_unpacked(libraries, base=True), Compression.GZIP),
            LayerInput(_unpacked(server), Compression.ZSTD),
            LayerInput(_configuration(port, marker), Compression.GZIP),
            LayerInput(_removals(), Compression.NONE),
        ),
        process=ProcessDescription(
            entrypoint=("/usr/bin/redis-server", "/etc/redis/redis.conf"),
            env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"),
            user=f"{USER}:{USER}",
            working_dir=f"/{_DATA}",
        ),
    )


def _unpacked(packages: Iterable[Path], *, base: bool = False) -> LayerBuilder:
    layer = LayerBuilder()
    if base:
        accounts = f"root:x:0:0:root:/root:/bin/false\n{USER}:x:{UID}:{UID}::/{_DATA}:/bin/false\n"
        layer.directory("tmp", mode=0o1777)
        layer.file("etc/passwd", accounts.encode())
        layer.file("etc/group", f"root:x:0:\n{USER}:x:{UID}:\n".encode())
        layer.file(REMOVED_FILE, b"left behind by a build step\n", mode=0o600)
    directories: set[str] = set()
    for package in packages:
        for entry, content in files(package.read_bytes()):
            if not entry.isdir() or entry.name not in directories:
                _add(layer, entry, content)
            directories.add(entry.name)
    return layer


def _add(layer: LayerBuilder, entry: TarInfo, content: bytes) -> None:
    """Take over one entry with its mode; the owner is root in every package we use."""
    mode = entry.mode & 0o7777
    if entry.isdir():
        layer.directory(entry.name, mode=mode)
    elif entry.issym():
        layer.symlink(entry.name, entry.linkname)
    elif entry.islnk():
        layer.hardlink(entry.name, entry.linkname)
    elif entry.isreg():
        layer.file(entry.name, content, mode=mode)


def _configuration(port: int, marker: str) -> LayerBuilder:
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
    layer = LayerBuilder()
    layer.file("etc/redis/redis.conf", "\n".join(settings).encode())
    layer.directory(_DATA, mode=0o750, uid=UID, gid=UID)
    layer.directory(f"{_DATA}/appendonlydir", mode=0o755, uid=UID, gid=UID)
    for name, content in {
        "appendonly.aof.1.base.aof": b"".join(_resp(command) for command in commands),
        "appendonly.aof.1.incr.aof": b"",
        "appendonly.aof.manifest": (
            b"file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        ),
    }.items():
        layer.file(f"{_DATA}/appendonlydir/{name}", content, uid=UID, gid=UID)
    return layer


def _removals() -> LayerBuilder:
    layer = LayerBuilder()
    layer.whiteout("usr/share/doc")
    layer.whiteout(REMOVED_FILE)
    return layer


def _resp(words: tuple[str, ...]) -> bytes:
    """One command as redis writes it (RESP array of bulk strings)."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words]
    return b"".join(parts)
