"""
What every store is filled with: an image's layers, one more with what a start leaves, and the merged tree.

The last layer holds Python's compiled modules, which images usually have, and a large file to read from.
The tree is taken from our own mount, so all stores show the same; it is unpacked once, without what upper
layers hide, while ours seals all layers.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isal import igzip

from bench.rootfs_reads import DATA_BYTES, DATA_NAME, PYTHON
from bench.rootfs_sealed_store import SealedStore
from enclave_cc.formats.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rootfs_images import BuiltImage

# Ext4 on most machines, and not in memory, which /tmp may be.
_PLACE: Final = "/var/tmp"  # noqa: S108 - names in it are made by tempfile
_LOOP_BYTES: Final = 16 << 30
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Material:
    """Tar streams: the layers from the lowest, and the tree that they make."""

    layers: tuple[Path, ...]
    tree: Path

    @property
    def tree_bytes(self) -> int:
        """Return the size of the merged tree's archive."""
        return self.tree.stat().st_size


@contextmanager
def workspace() -> Iterator[Path]:
    """Yield a directory on ext4: the machine's own, or a file system in a file if it has another."""
    with tempfile.TemporaryDirectory(prefix="ecc-bench-", dir=_PLACE) as name, ExitStack() as stack:
        directory = Path(name)
        kind = subprocess.check_output(("stat", "-f", "-c", "%T", name), text=True).strip()
        if kind != "ext2/ext3":
            directory = _loop_file_system(directory, stack)
        yield directory


def material(built: BuiltImage, directory: Path) -> Material:
    """Make the tar streams; needs a private mount namespace."""
    layers = _inflated(built, directory)
    extra, tree = directory / "extra.tar", directory / "tree.tar"
    store = SealedStore("first", directory)
    store.fill(layers, tree)
    with store.session() as session:
        session.mount()
        _use(session.root)
        _pack(session.root, tree, ("--sort=name", "."))
        compiled = [path.relative_to(session.root) for path in session.root.glob("usr/lib/**/__pycache__")]
        _pack(session.root, extra, (DATA_NAME, *map(str, compiled)))
    return Material((*layers, extra), tree)


def _loop_file_system(directory: Path, stack: ExitStack) -> Path:
    image, target = directory / "ext4", directory / "mounted"
    with image.open("wb") as file:
        file.truncate(_LOOP_BYTES)
    target.mkdir()
    subprocess.run(("mkfs.ext4", "-q", "-F", str(image)), check=True)
    subprocess.run(("mount", "-o", "loop", str(image), str(target)), check=True)
    stack.callback(subprocess.run, ("umount", str(target)), check=True)
    return target


def _inflated(built: BuiltImage, directory: Path) -> list[Path]:
    manifest = built.layout.read_manifest(built.layout.find())
    if not isinstance(manifest, Manifest):
        raise TypeError("the image has several platforms")
    paths = []
    for number, layer in enumerate(manifest.layers):
        path = directory / f"layer-{number}.tar"
        with (
            built.layout.open_blob(layer.digest) as blob,
            igzip.open(blob, "rb") as plain,
            path.open("wb") as file,
        ):
            while piece := plain.read(_PIECE_BYTES):
                file.write(piece)
        paths.append(path)
    return paths


def _use(root: Path) -> None:
    """Let Python compile what it will need, and put the large file beside it."""
    python, _no_files, command = PYTHON
    subprocess.run(("chroot", str(root), python, command, "import json,ssl"), check=True)
    with (root / DATA_NAME).open("wb") as file:
        for _ in range(DATA_BYTES // _PIECE_BYTES):
            file.write(os.urandom(_PIECE_BYTES))


def _pack(root: Path, target: Path, names: tuple[str, ...]) -> None:
    subprocess.run(("tar", "-cf", str(target), "--numeric-owner", "-C", str(root), *names), check=True)
