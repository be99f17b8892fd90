"""
Change who may open an image without touching its layers: only the wrapped keys on their descriptors change.

Whoever could open the image before and kept a layer's key still can: removing a recipient takes away the
wrapped copy in this manifest, not what was unwrapped, nor the manifest that was there before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, wrapped_annotations
from enclave_cc.image.checks import Checks
from enclave_cc.tenant.encryption.manifest_edit import DocumentEdit, annotate, point_to, take_annotations
from enclave_cc.tenant.images import layer_type, read_images
from enclave_cc.tenant.keys.ids import key_id
from enclave_cc.tenant.places.transfer import transfer_blob
from enclave_cc.tenant.work import Work

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.image.ports import LayerKeys
    from enclave_cc.tenant.images import Image, Images
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter


@dataclass(frozen=True, slots=True)
class Rewrapping:
    """What shall change; ``keys`` open the layers when somebody is added."""

    add: Sequence[Recipient] = ()
    remove: Collection[str] = ()
    platforms: Sequence[Platform] = ()


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What was written, and how many layers' keys changed."""

    descriptor: Descriptor
    layers: int


def rewrap(
    reader: ImageReader,
    writer: ImageWriter,
    request: Rewrapping,
    keys: LayerKeys,
    work: Work | None = None,
) -> Rewrapped:
    """
    Write the image with other wrapped keys; its layers are copied, mounted or found where they are.

    Raises ``InvalidInputError`` (image-not-encrypted, recipient-unknown, recipient-missing) and
    ``RefusedError`` (layer-key-refused).
    """
    work = work or Work()
    found = read_images(reader, request.platforms)
    encrypted = [layer for layer in found.layers if layer_type(layer).encrypted]
    if not encrypted:
        raise InvalidInputError(
            "image-not-encrypted", "no layer of the image is encrypted", stage=Stage.CONFIG
        )
    changed = {layer.digest: _rewrapped(layer, request, keys) for layer in encrypted}
    configs = {image.manifest.config.digest: image.manifest.config for image in found.images}
    blobs = [*found.layers, *configs.values()]
    work.each(lambda blob: transfer_blob(reader, writer, blob, work), blobs)
    written = [_write_image(writer, image, changed, found) for image in found.images]
    top = written[0] if found.chosen.index is None else _write_index(writer, found, written)
    return Rewrapped(top, len(changed))


def _rewrapped(layer: Descriptor, request: Rewrapping, keys: LayerKeys) -> dict[str, str]:
    """Return the annotations with wrapped keys as they shall be."""
    present = {name: text for name, text in layer.annotations.items() if name.startswith(KEYS_PREFIX)}
    kept = _without(present, request.remove, layer)
    if request.add:
        key = keys.unwrap(layer, Checks())
        try:
            added = wrapped_annotations(key.private, request.add)
        finally:
            key.wipe()
        for name, text in added.items():
            kept[name] = f"{kept[name]},{text}" if kept.get(name) else text
    if not kept:
        raise InvalidInputError(
            "recipient-missing", "nobody could open the image: it needs a recipient", stage=Stage.CONFIG
        )
    return kept


def _without(present: Mapping[str, str], remove: Collection[str], layer: Descriptor) -> dict[str, str]:
    """Drop the wrapped copies of some key ids; one that is not there is a mistake, and said so."""
    kept: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, text in present.items():
        for item in text.split(","):
            name_of_key = key_id(name, item)
            seen.add(name_of_key)
            if name_of_key not in remove:
                kept.setdefault(name, []).append(item)
    missing = sorted(set(remove) - seen)
    if missing:
        raise InvalidInputError(
            "recipient-unknown",
            "a layer is not wrapped for the recipient that shall be removed",
            stage=Stage.CONFIG,
            detail=f"{layer.digest}: {', '.join(missing)}; it has {', '.join(sorted(seen)) or 'none'}",
        )
    return {name: ",".join(items) for name, items in kept.items()}


def _write_image(
    writer: ImageWriter, image: Image, changed: Mapping[Digest, Mapping[str, str]], found: Images
) -> Descriptor:
    edit = DocumentEdit(image.body)
    for members, layer in zip(edit.layers, image.manifest.layers, strict=True):
        if layer.digest in changed:
            take_annotations(members, [name for name in layer.annotations if name.startswith(KEYS_PREFIX)])
            annotate(members, changed[layer.digest])
    name = writer.name if found.chosen.index is None else None
    return writer.add_manifest(edit.to_bytes(), image.manifest.media_type, name=name)


def _write_index(writer: ImageWriter, found: Images, written: Sequence[Descriptor]) -> Descriptor:
    edit = DocumentEdit(found.chosen.body)
    edit.keep_entries(image.position for image in found.images)
    for members, descriptor in zip(edit.entries, written, strict=True):
        point_to(members, descriptor.digest, descriptor.size)
    return writer.add_manifest(edit.to_bytes(), edit.media_type, name=writer.name)
