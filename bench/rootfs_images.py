"""
Root file systems to measure with: Debian, Python and what people put on top, made of Debian's own packages.

No Docker: apt downloads, nothing is installed. Layers are those of a usual Dockerfile; the last one removes
things. The layouts are kept under ~/.cache/enclave-cc/bench, and made again when the packages change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.demo.images.deb_archive import files
from enclave_cc.demo.images.debian_packages import download
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.places.image_layout import ImageLayout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from tarfile import TarInfo

    from enclave_cc.formats.oci.media_types import Compression

CACHE: Final = Path("~/.cache/enclave-cc/bench").expanduser()
# Part of the name of what is cached: raise it when this module makes other bytes of the same packages.
_RECIPE: Final = 1

_PACKAGES: Final = Path(__file__).with_name("packages.toml")
SMALL: Final = ("base", "python", "science")
LARGE: Final = ("base", "python", "tools", "science", "application")
_REMOVED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale")


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A plain image in a layout of its own, and how large it is once unpacked."""

    name: str
    layout: ImageLayout
    compression: Compression
    tar_bytes: int


def image(name: str, layers: tuple[str, ...], compression: Compression) -> BuiltImage:
    """Return the image, from the cache if the same packages were used before."""
    names = tomllib.loads(_PACKAGES.read_text())
    packages = {layer: download(tuple(names[layer]), CACHE / "packages") for layer in layers}
    identity = hashlib.sha256(json.dumps([_RECIPE, compression.value]).encode())
    for path in sorted(path for paths in packages.values() for path in paths):
        identity.update(path.name.encode() + b"\0")
    directory = CACHE / f"{name}-{identity.hexdigest()[:16]}"
    size_file = directory / "tar-bytes"
    if not size_file.exists():
        shutil.rmtree(directory, ignore_errors=True)
        size = _build(ImageLayout.create(directory), packages, compression)
        size_file.write_text(str(size))
    return BuiltImage(name, ImageLayout.open(directory), compression, int(size_file.read_text()))


def _build(layout: ImageLayout, packages: dict[str, tuple[Path, ...]], compression: Compression) -> int:
    tars = [_unpacked(paths).tar() for paths in packages.values()]
    removals = LayerBuilder()
    for path in _REMOVED:
        removals.whiteout(path)
    tars.append(removals.tar())
    process = ProcessDescription(entrypoint=("/usr/bin/python3",), env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"))
    build_image(layout, [LayerInput(tar, compression) for tar in tars], process)
    return sum(map(len, tars))


def _unpacked(packages: Iterable[Path]) -> LayerBuilder:
    layer = LayerBuilder()
    seen: set[str] = set()
    for package in packages:
        for entry, content in files(package.read_bytes()):
            # Packages share directories, and a few replace each other's files.
            if entry.name not in seen:
                seen.add(entry.name)
                _add(layer, entry, content)
    return layer


def _add(layer: LayerBuilder, entry: TarInfo, content: bytes) -> None:
    mode, owner = entry.mode & 0o7777, {"uid": entry.uid, "gid": entry.gid}
    if entry.isdir():
        layer.directory(entry.name, mode=mode, **owner)
    elif entry.issym():
        layer.symlink(entry.name, entry.linkname)
    elif entry.islnk():
        layer.hardlink(entry.name, entry.linkname)
    elif entry.isreg():
        layer.file(entry.name, content, mode=mode, **owner)
