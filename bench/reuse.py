"""Preparing a second container of an image in the same pod, with its layers shared and without."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.report import Goal, Result, row
from bench.rootfs_images import SMALL, image
from bench.sealing import BENCH_KEY, BENCH_KEY_ID, BENCH_REFERENCE, LayoutSource
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.layers import LayerWork, seal_layers
from enclave_cc.enclave.agent.main import spare_collector
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerStore
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer
from enclave_cc.image.layers.progress import Progress
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout

if TYPE_CHECKING:
    from enclave_cc.enclave.rootfs.sealing.layer_store import LayerShare

_RUNS: Final = 5


def run() -> Result:
    """Seal the same encrypted image three times a round: first, again with its layers shared, and without."""
    spare_collector()
    built = image("small", SMALL, Compression.GZIP)
    with tempfile.TemporaryDirectory(prefix="ecc-bench-") as name:
        containers = _Containers(Path(name), built.layout)
        wall: dict[str, list[float]] = defaultdict(list)
        cpu: dict[str, list[float]] = defaultdict(list)
        for _ in range(_RUNS):
            for how, seconds, cpu_seconds in containers.round():
                wall[how].append(seconds)
                cpu[how].append(cpu_seconds)
    ratios = [mine / other for mine, other in zip(wall["shared"], wall["alone"], strict=True)]
    rows = [
        row(f"second container, layers {how}, {what}", "s", times[how])
        for how in ("alone", "shared")
        for what, times in (("wall", wall), ("user + system", cpu))
    ]
    rows.append(row("shared / alone, pair by pair", "ratio", ratios))
    note = f"Debian and Python, {built.tar_bytes / 1e6:.0f} MB in {len(SMALL) + 1} layers, encrypted."
    return Result("reuse", rows, [Goal("second-container-over-first", rows[-1].median, 0.5)], note)


class _Containers:
    """Images of one pod, made in directories that do not stay."""

    def __init__(self, directory: Path, plain: ImageLayout) -> None:
        self._directory = directory
        encrypted = ImageLayout.create(directory / "encrypted")
        described = encrypt_image(plain, encrypted, [BrokerKey(Secret(BENCH_KEY), BENCH_KEY_ID)])
        manifest = encrypted.read_manifest(described)
        if not isinstance(manifest, Manifest):
            raise TypeError("the builder made no manifest")
        config = ImageConfig.parse(encrypted.read_document(manifest.config.digest))
        self._source = LayoutSource(encrypted)
        self._layers = [
            Layer(BENCH_REFERENCE, descriptor, LayerMediaType.parse(descriptor.media_type), diff_id)
            for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ]

    def round(self) -> list[tuple[str, float, float]]:
        """Return what each preparation took: how it was made, seconds, and seconds of processors."""
        store = LayerStore()
        found = []
        for how in ("first", "shared", "alone"):
            target = self._directory / how
            share = None if how == "alone" else store.share(target)
            begun, cpu = time.perf_counter(), time.process_time()
            self._seal(target, share)
            found.append((how, time.perf_counter() - begun, time.process_time() - cpu))
        for how, *_ in found:
            store.release(self._directory / how)
            shutil.rmtree(self._directory / how)
        return found

    def _seal(self, target: Path, share: LayerShare | None) -> None:
        writer = SealedImageWriter(target, fdk=Secret.random(), binding=Binding("pod", "container", "image"))
        progress = Progress().expect([layer.descriptor.size for layer in self._layers])
        work = LayerWork(self._source, KeyRing(self._source))
        seal_layers(self._layers, progress, writer, work, share)
        writer.finish()
