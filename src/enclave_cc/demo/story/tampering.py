"""Ways to break things on the untrusted side: stored blobs, pushed images, sealed files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enclave_cc.demo.owner.publish import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.demo.owner.publish import PublishedImage, Tenant
    from enclave_cc.demo.scene.paths import ScenePaths
    from enclave_cc.tenant.places.image_layout import ImageLayout

_STORAGE: Final = "storage/docker/registry/v2/blobs"


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes((byte[0] ^ 0x01,)))


def flip_stored_blob(paths: ScenePaths, digest: Digest) -> None:
    """Change one byte in the middle of a blob in the registry's storage."""
    blob = paths.registry / _STORAGE / digest.algorithm / digest.hex[:2] / digest.hex / "data"
    flip_byte(blob, blob.stat().st_size // 2)


def publish_changed_and_signed(tenant: Tenant, plain: ImageLayout, name: str) -> PublishedImage:
    """Change one byte of a layer's ciphertext, and let the owner himself name and sign the result."""
    layout, _ = tenant.encrypt(plain, name)
    manifest = read_manifest(layout)
    layer = manifest.layers[-1]
    with layout.open_blob(layer.digest) as blob:
        data = bytearray(blob.read())
    data[len(data) // 2] ^= 0x01
    digest, size = layout.add_blob([bytes(data)])
    changed = replace(manifest, layers=(*manifest.layers[:-1], replace(layer, digest=digest, size=size)))
    descriptor = layout.add_manifest(changed, name="latest")
    return tenant.publish_encrypted(name, layout, descriptor, plain, signed_by=tenant.signing_key)


def largest_file(directory: Path) -> Path:
    """Return the largest file below a directory: of a sealed image, its largest layer."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)
