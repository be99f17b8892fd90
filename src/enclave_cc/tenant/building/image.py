"""Images assembled from layers and a description of the process, straight into an OCI layout."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import OCI_CONFIG, Compression, LayerMediaType
from enclave_cc.tenant.building.layers import LayerBuilder, compress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.tenant.places.image_layout import ImageLayout

CHUNK_BYTES: Final = 1 << 20
# Tars up to this size stay in memory while they are compressed.
_MEMORY_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class LayerInput:
    """An uncompressed tar (bytes, a file, or a builder) and how the layer shall be compressed."""

    tar: bytes | Path | LayerBuilder
    compression: Compression = Compression.GZIP


@dataclass(frozen=True, slots=True)
class ProcessDescription:
    """What the image runs, as in a Dockerfile."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    os: str = "linux"
    architecture: str = "amd64"


def build_image(
    layout: ImageLayout, layers: Sequence[LayerInput], process: ProcessDescription, *, name: str = "latest"
) -> Descriptor:
    """Store layers, configuration and manifest in a layout; return the manifest's descriptor."""
    stored = [_store_layer(layout, layer) for layer in layers]
    config = ImageConfig(
        os=process.os,
        architecture=process.architecture,
        diff_ids=tuple(diff_id for _, diff_id in stored),
        entrypoint=process.entrypoint,
        cmd=process.cmd,
        env=process.env,
        user=process.user,
        working_dir=process.working_dir,
    )
    digest, size = layout.add_blob([config.to_bytes()])
    manifest = Manifest(Descriptor(OCI_CONFIG, digest, size), tuple(layer for layer, _ in stored))
    return layout.add_manifest(manifest, name=name)


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end, in pieces."""
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _store_layer(layout: ImageLayout, layer: LayerInput) -> tuple[Descriptor, Digest]:
    with (
        tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as tar,
        tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as compressed,
    ):
        _write_tar(layer.tar, tar)
        tar.seek(0)
        diff_id = hashlib.sha256()
        for chunk in read_chunks(tar):
            diff_id.update(chunk)
        tar.seek(0)
        compress(tar, compressed, layer.compression)
        compressed.seek(0)
        digest, size = layout.add_blob(read_chunks(compressed))
    media_type = str(LayerMediaType(layer.compression, encrypted=False))
    return Descriptor(media_type, digest, size), Digest("sha256", diff_id.hexdigest())


def _write_tar(tar: bytes | Path | LayerBuilder, out: IO[bytes]) -> None:
    match tar:
        case bytes():
            out.write(tar)
        case Path():
            with tar.open("rb") as stream:
                out.writelines(read_chunks(stream))
        case LayerBuilder():
            tar.write_to(out)
