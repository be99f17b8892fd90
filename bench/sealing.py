"""Verify, decrypt, inflate, scan and seal one layer, next to the decompressor alone on the same bytes."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from isal import igzip

from bench.report import Goal, Result, interleaved, row
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.descriptor import Descriptor

_RUNS = 5
_COPIES = 4
_READ_BYTES = 256 << 10
BENCH_KEY = bytes(range(32))
BENCH_KEY_ID = "kbs:///bench/keys/image"
BENCH_REFERENCE = Reference.parse("registry.example/bench/image:v1")


class LayoutSource:
    """Blobs of a layout as the agent's source, and the one key as its resources."""

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        del reference
        with self._layout.open_blob(descriptor.digest) as blob:
            while chunk := blob.read(_READ_BYTES):
                yield chunk

    def get(self, uri: str) -> bytes:
        """Return the key."""
        del uri
        return BENCH_KEY


def run() -> Result:
    """Take an encrypted layer of copies of the standard library through the agent's pipeline."""
    with tempfile.TemporaryDirectory(prefix="ecc-bench-") as name:
        directory = Path(name)
        plain, layer, source = _image(directory)
        megabytes = _gunzip(plain) / 1e6
        target = directory / "sealed"
        times = interleaved(
            {"pipeline": lambda: _seal(layer, source, target), "gunzip": lambda: _gunzip(plain)}, runs=_RUNS
        )
    ratios = [mine / other for mine, other in zip(times["pipeline"], times["gunzip"], strict=True)]
    rows = [
        row(
            "verify + decrypt + inflate + scan + seal",
            "MB/s",
            [megabytes / taken for taken in times["pipeline"]],
        ),
        row("isal gunzip alone", "MB/s", [megabytes / taken for taken in times["gunzip"]]),
        row("pipeline / gunzip, pair by pair", "ratio", ratios),
    ]
    goals = [Goal("seal-over-gunzip", rows[2].median, 1.6)]
    return Result("sealing", rows, goals, "One gzip layer, encrypted; blobs from the page cache.")


def _image(directory: Path) -> tuple[Path, Layer, LayoutSource]:
    builder = LayerBuilder()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("*.py")):
        for copy in range(_COPIES):
            builder.file(f"lib{copy}/{path.name}", path.read_bytes())
    for path in sorted((library / "lib-dynload").iterdir()):
        for copy in range(_COPIES):
            builder.file(f"dynload{copy}/{path.name}", path.read_bytes())
    layout = ImageLayout.create(directory / "plain")
    described = build_image(layout, [LayerInput(builder)], ProcessDescription())
    plain = layout.read_manifest(described)
    encrypted = ImageLayout.create(directory / "encrypted")
    manifest = encrypted.read_manifest(
        encrypt_image(layout, encrypted, [BrokerKey(Secret(BENCH_KEY), BENCH_KEY_ID)])
    )
    if not isinstance(plain, Manifest) or not isinstance(manifest, Manifest):
        raise TypeError("the builder made no manifest")
    blob = directory / "layer.gz"
    with layout.open_blob(plain.layers[0].digest) as stream, blob.open("wb") as file:
        shutil.copyfileobj(stream, file)
    config = ImageConfig.parse(encrypted.read_document(manifest.config.digest))
    descriptor = manifest.layers[0]
    layer = Layer(
        BENCH_REFERENCE, descriptor, LayerMediaType.parse(descriptor.media_type), config.diff_ids[0]
    )
    return blob, layer, LayoutSource(encrypted)


def _seal(layer: Layer, source: LayoutSource, target: Path) -> None:
    writer = SealedImageWriter(target, fdk=Secret.random(), binding=Binding("pod", "container", "image"))
    writer.add_layer(open_layer(layer, source=source, keys=KeyRing(source)))
    writer.finish()
    shutil.rmtree(target)


def _gunzip(path: Path) -> int:
    size = 0
    with igzip.open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            size += len(chunk)
    return size
