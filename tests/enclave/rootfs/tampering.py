"""An image whose every region has several chunks, and what a host may do to its files."""

from __future__ import annotations

import io
import os
import random
import tarfile
from functools import cache
from typing import TYPE_CHECKING

from tests.enclave.rootfs.conftest import BINDING

from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES
from enclave_cc.formats.sealed.manifest import open_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.enclave.rootfs.conftest import SealedFixture

# The targets of long links lie in the metadata, which so have as many chunks as each layer: blobs can change
# places without changing lengths.
CHUNKS = 8
_LINKS = 60
# Blobs by their place in the manifest.
REGIONS = {"metadata": 0, "layer 1": 1, "layer 2": 2}
FILES = {
    f"layer-{layer}/{name}": random.Random(f"{layer} {name}").randbytes(size)
    for layer in (1, 2)
    for name, size in (("a", 60_000), ("b", 90_000), ("c", 40_000))
}
LINKS = {
    f"layer-{layer}/link-{number:02}": f"{layer}{number:02}".ljust(4095, "x")
    for layer in (1, 2)
    for number in range(_LINKS)
}


@cache
def layers() -> list[bytes]:
    return [_layer("layer-1/"), _layer("layer-2/")]


def _layer(prefix: str) -> bytes:
    """Put files where the suite damages them: at the beginning and at the end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("a", "b"):
            _add_file(tar, prefix + name)
        for name, target in LINKS.items():
            if name.startswith(prefix):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
        _add_file(tar, f"{prefix}c")
    return buffer.getvalue()


def _add_file(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(FILES[name])
    tar.addfile(info, io.BytesIO(FILES[name]))


def blobs(image: SealedFixture) -> list[Path]:
    """Return the blobs in the manifest's order, which the host does not know."""
    data = (image.directory / "manifest.sealed").read_bytes()
    return [image.directory / blob.name for blob in open_manifest(data, fdk=image.fdk, binding=BINDING).blobs]


def chunk(blob: Path, index: int) -> bytes:
    with blob.open("rb") as file:
        return os.pread(file.fileno(), STRIDE_BYTES, index * STRIDE_BYTES)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)


def flip(path: Path, offset: int) -> None:
    with path.open("rb") as file:
        octet = os.pread(file.fileno(), 1, offset)[0]
    overwrite(path, offset, bytes([octet ^ 1]))


def swap(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _flip(offset: int) -> Callable:
    def act(image, blob, index, _older):
        flip(blob, index * STRIDE_BYTES + offset)

    return act


def _swap_chunks(image, blob, index, _older):
    other = index - 1 if index else index + 1
    mine, its = chunk(blob, index), chunk(blob, other)
    overwrite(blob, index * STRIDE_BYTES, its)
    overwrite(blob, other * STRIDE_BYTES, mine)


def _repeat_chunk(image, blob, index, _older):
    overwrite(blob, index * STRIDE_BYTES, chunk(blob, index - 1 if index else index + 1))


def _chunk_of_another_blob(image, blob, index, _older):
    other = next(path for path in blobs(image) if path != blob)
    overwrite(blob, index * STRIDE_BYTES, chunk(other, index))


def _zeros(image, blob, index, _older):
    overwrite(blob, index * STRIDE_BYTES, bytes(STRIDE_BYTES))


def _older_chunk(image, blob, index, older):
    """The same chunk of the same layers, sealed another time."""
    place = blobs(image).index(blob)
    overwrite(blob, index * STRIDE_BYTES, chunk(blobs(older)[place], index))


def _older_blob(image, blob, index, older):
    place = blobs(image).index(blob)
    blob.write_bytes(blobs(older)[place].read_bytes())


def _swap_blobs(image, blob, index, _older):
    swap(blob, next(path for path in reversed(blobs(image)) if path != blob))


def _truncate(image, blob, index, _older):
    os.truncate(blob, index * STRIDE_BYTES + CHUNK_BYTES // 2)


def _drop_the_last_chunk(image, blob, index, _older):
    os.truncate(blob, (CHUNKS - 1) * STRIDE_BYTES)


def _extend(by_bytes: int) -> Callable:
    def act(image, blob, index, _older):
        with blob.open("ab") as file:
            file.write(chunk(blob, CHUNKS - 1)[:by_bytes])

    return act


def _remove(image, blob, index, _older):
    blob.unlink()


# Acts that keep the lengths are found by the tags, the others by the lengths that the manifest fixes.
SAME_LENGTH = {
    "flip the first bit": _flip(0),
    "flip a bit in the middle": _flip(CHUNK_BYTES // 2),
    "flip a bit of the tag": _flip(STRIDE_BYTES - 1),
    "swap two chunks": _swap_chunks,
    "repeat a chunk": _repeat_chunk,
    "put a chunk of another blob there": _chunk_of_another_blob,
    "put zeros there": _zeros,
    "replay an older chunk": _older_chunk,
    "replay an older blob": _older_blob,
    "swap blobs": _swap_blobs,
}
OTHER_LENGTH = {
    "truncate": _truncate,
    "drop the last chunk": _drop_the_last_chunk,
    "extend by a byte": _extend(1),
    "extend by a chunk": _extend(STRIDE_BYTES),
    "remove": _remove,
}
