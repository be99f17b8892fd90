"""
What ``docker load`` reads, as a place to write to.

The format has one plain image per entry: no indexes, no encrypted layers, no signatures. Layers are
written uncompressed, which every version of the tools reads, and once, however often they occur.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import equal
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.image.layers.inflate import CorruptStreamError, inflate
from enclave_cc.tenant.places.archive import archive_error
from enclave_cc.tenant.places.checked import require
from enclave_cc.tenant.places.docker_archive import MANIFEST_FILE
from enclave_cc.tenant.places.layout import DEFAULT_NAME, LayoutReader
from enclave_cc.tenant.places.staging import StagedWriter

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.places.image_layout import ImageLayout

_MEMORY_BYTES: Final = 16 << 20


class DockerArchiveWriter(StagedWriter):
    """Collects one image and writes it as ``docker save`` would; the name becomes its repository tag."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._tags = [] if name is None else [str(Reference.parse(name))]
        super().__init__(path, DEFAULT_NAME)

    def write_archive(self, layout: ImageLayout, out: IO[bytes]) -> None:
        """Write the layers, the configuration and the list that names them."""
        manifest = _only_image(layout)
        config = layout.read_document(manifest.config.digest)
        diff_ids = ImageConfig.parse(config).diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise archive_error(f"{len(manifest.layers)} layers, and {len(diff_ids)} diff ids")
        config_file = f"{manifest.config.digest.hex}.json"
        entry = {"Config": config_file, "RepoTags": self._tags, "Layers": [_file(each) for each in diff_ids]}
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            written = set()
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
                if diff_id not in written:
                    _add_layer(archive, layout, layer, diff_id)
                    written.add(diff_id)
            _add(archive, config_file, io.BytesIO(config), len(config))
            listed = json.dumps([entry]).encode()
            _add(archive, MANIFEST_FILE, io.BytesIO(listed), len(listed))


def _only_image(layout: ImageLayout) -> Manifest:
    entries = layout.index().manifests
    if len(entries) != 1:
        raise _unfit("it holds one image and no signatures")
    document = layout.read_manifest(entries[0])
    if not isinstance(document, Manifest):
        raise _unfit("it holds no image for several platforms: choose one")
    for layer in document.layers:
        if _media_type(layer).encrypted:
            raise _unfit("it has no place for a layer's encryption")
    return document


def _add_layer(archive: tarfile.TarFile, layout: ImageLayout, layer: Descriptor, diff_id: Digest) -> None:
    digest, size = hashlib.new(diff_id.algorithm), 0
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(layout.directory)) as plain:
        try:
            for piece in inflate(LayoutReader(layout).open_blob(layer), _media_type(layer).compression):
                digest.update(piece)
                size += len(piece)
                plain.write(piece)
        except CorruptStreamError as error:
            raise archive_error(f"{layer.digest}: {error}") from error
        actual = f"{diff_id.algorithm}:{digest.hexdigest()}"
        require(equal("image.layer.diff-id", expected=str(diff_id), actual=actual))
        plain.seek(0)
        _add(archive, _file(diff_id), plain, size)


def _media_type(layer: Descriptor) -> LayerMediaType:
    try:
        return LayerMediaType.parse(layer.media_type)
    except ValueError:
        # What is no layer is kept as the bytes it is; its diff id will say so.
        return LayerMediaType(Compression.NONE, encrypted=False)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, content)


def _file(diff_id: Digest) -> str:
    return f"{diff_id.hex}.tar"


def _unfit(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "image-place-unfit", "a docker archive cannot hold this image", stage=Stage.STORE, detail=detail
    )
