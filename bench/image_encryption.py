"""The image's owner in the benchmark: encrypt, sign, push; and what encrypting costs at the very least."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import resource
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bench.image_peers import Spent
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image
from enclave_cc.transport.registry.client import RegistryClient

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rootfs_images import BuiltImage

_KEY: Final = bytes(range(32))
_KEY_ID: Final = "kbs:///bench/keys/image"
_SIGNING_KEY_ID: Final = "kbs:///bench/keys/cosign"
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Published:
    """An image in a registry, plain and encrypted, and what one must know to open the latter."""

    plain: str
    plain_blobs: tuple[Path, ...]
    order: dict[str, Any]
    source: ImageLayout

    def encrypt_again(self, directory: Path) -> Spent:
        """Encrypt as a tenant does, from layout to layout."""
        target = directory / "encrypted-again"
        begun, cpu = time.perf_counter(), _own_cpu_s()
        _encrypt(self.source, ImageLayout.create(target))
        spent = Spent(time.perf_counter() - begun, _own_cpu_s() - cpu)
        shutil.rmtree(target)
        return spent


def published(built: BuiltImage, host: str, directory: Path) -> Published:
    """Push a plain and an encrypted, signed copy; return where they are."""
    client = RegistryClient(insecure_http=[host])
    plain, reference = Reference.parse(f"{host}/bench/plain:v1"), Reference.parse(f"{host}/bench/image:v1")
    push_image(built.layout, plain, client)
    encrypted = ImageLayout.create(directory / "encrypted")
    _encrypt(built.layout, encrypted)
    private, public = generate_signing_key()
    sign_image(encrypted, encrypted.find(), repository=reference.name, private_key_pem=private)
    push_image(encrypted, reference, client)
    client.close()
    shutil.rmtree(encrypted.directory)
    requirement = {"type": "sigstoreSigned", "keyPath": _SIGNING_KEY_ID}
    order = {
        "image": str(reference),
        "policy": json.dumps({"default": [requirement]}),
        "resources": {_KEY_ID: _KEY.hex(), _SIGNING_KEY_ID: public.hex()},
    }
    return Published(str(plain), _blobs(built.layout), order, built.layout)


def primitives(blobs: tuple[Path, ...], directory: Path) -> Spent:
    """Read, digest, encrypt, authenticate, digest and write the same bytes, a thread per blob and core."""
    target = directory / "primitives"
    target.mkdir()
    begun, cpu = time.perf_counter(), _own_cpu_s()
    largest_first = sorted(blobs, key=lambda blob: blob.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda blob: _primitive(blob, target / blob.name), largest_first))
    spent = Spent(time.perf_counter() - begun, _own_cpu_s() - cpu)
    shutil.rmtree(target)
    return spent


def _primitive(source: Path, target: Path) -> None:
    plain, stored = hashlib.sha256(), hashlib.sha256()
    tag = hmac.new(_KEY, digestmod="sha256")
    cipher = Cipher(algorithms.AES(_KEY), modes.CTR(bytes(16))).encryptor()
    read, written = bytearray(_READ_BYTES), bytearray(_READ_BYTES)
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while size := reader.readinto(read):
            cipher.update_into(memoryview(read)[:size], written)
            result = memoryview(written)[:size]
            plain.update(memoryview(read)[:size])
            tag.update(result)
            stored.update(result)
            writer.write(result)


def _encrypt(source: ImageLayout, target: ImageLayout) -> None:
    encrypt_image(source, target, [BrokerKey(Secret(_KEY), _KEY_ID)])


def _blobs(layout: ImageLayout) -> tuple[Path, ...]:
    manifest = layout.read_manifest(layout.find())
    if not isinstance(manifest, Manifest):
        raise TypeError("the builder made no manifest")
    return tuple(
        layout.directory / "blobs" / layer.digest.algorithm / layer.digest.hex for layer in manifest.layers
    )


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
