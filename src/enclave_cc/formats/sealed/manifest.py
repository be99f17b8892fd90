"""
The sealed manifest: which blobs make up an image, and their keys.

``magic | version | nonce | AES-256-GCM(K, length | JSON | keys)`` with K = HKDF-SHA256(FDK). The
associated data bind it to one pod, container and image, so that it opens nowhere else. The keys
follow the JSON as raw bytes: key material never becomes text. Nothing is parsed before it is
authenticated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_cc.core import strict_json
from enclave_cc.core.fields import Fields
from enclave_cc.core.secret import Secret
from enclave_cc.formats.framing import lp
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, MAX_CHUNKS, TAG_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST_NAME: Final = "manifest.sealed"
# More layers than any container engine accepts, and one blob for the metadata.
MAX_BLOBS: Final = 512
MAX_MANIFEST_BYTES: Final = 256 * 1024
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32

_MAGIC: Final = b"enclave-cc sealed image\n"
_VERSION: Final = 2
_PREFIX: Final = _MAGIC + _VERSION.to_bytes(4, "big")
_HKDF_INFO: Final = b"enclave-cc sealed image, manifest, v1"
_LENGTH_BYTES: Final = 4
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{32}\.blob")


class ManifestRefusedError(ValueError):
    """The manifest is not authentic for this key and binding, or is malformed."""


class UnknownFormatError(ValueError):
    """The manifest belongs to a format that this version does not know."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The one place where a sealed image may be opened."""

    pod_uid: str
    container_id: str
    image_digest: str

    def associated_data(self) -> bytes:
        """Return what the manifest's tag covers besides its contents."""
        parts = (self.pod_uid, self.container_id, self.image_digest)
        return _PREFIX + lp(*(part.encode() for part in parts))


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """One file of sealed chunks; ``name`` is a bare file name."""

    name: str
    chunks: int
    key: Secret


@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs in the order of the virtual device: the metadata first, then the layers."""

    blobs: tuple[SealedBlob, ...]

    def wipe(self) -> None:
        """Forget all keys."""
        for blob in self.blobs:
            blob.key.wipe()


def seal_manifest(manifest: Manifest, *, fdk: Secret, binding: Binding, nonce: bytes) -> bytes:
    """Seal a manifest; ``nonce`` is fresh and random, and the FDK seals one manifest only."""
    members = [{"name": blob.name, "chunks": blob.chunks} for blob in manifest.blobs]
    text = strict_json.canonical({"chunk_bytes": CHUNK_BYTES, "blobs": members})
    # Its full size at once: a buffer that grows leaves copies behind.
    body = bytearray(_LENGTH_BYTES + len(text) + KEY_BYTES * len(manifest.blobs))
    keys = _LENGTH_BYTES + len(text)
    body[:keys] = len(text).to_bytes(_LENGTH_BYTES, "big") + text
    for index, blob in enumerate(manifest.blobs):
        body[keys + index * KEY_BYTES : keys + (index + 1) * KEY_BYTES] = blob.key.reveal()
    sealed = bytearray(len(body) + TAG_BYTES)
    cipher = _cipher(fdk)
    cipher.encrypt_into(nonce, body, binding.associated_data(), sealed)
    body[:] = bytes(len(body))
    return _PREFIX + nonce + sealed


def open_manifest(data: bytes, *, fdk: Secret, binding: Binding) -> Manifest:
    """Authenticate, then parse; ``UnknownFormatError`` or ``ManifestRefusedError`` otherwise."""
    if len(data) > MAX_MANIFEST_BYTES or not data.startswith(_MAGIC):
        raise ManifestRefusedError("this is no sealed manifest")
    if not data.startswith(_PREFIX):
        raise UnknownFormatError("the manifest has an unknown version")
    nonce = data[len(_PREFIX) : len(_PREFIX) + NONCE_BYTES]
    sealed = data[len(_PREFIX) + NONCE_BYTES :]
    if len(sealed) < TAG_BYTES:
        raise ManifestRefusedError("the manifest is cut off")
    body = bytearray(len(sealed) - TAG_BYTES)
    try:
        _cipher(fdk).decrypt_into(nonce, sealed, binding.associated_data(), body)
    except InvalidTag as error:
        raise ManifestRefusedError("the manifest is not authentic here") from error
    try:
        return _parse(memoryview(body))
    except ManifestRefusedError:
        raise
    except ValueError as error:
        raise ManifestRefusedError("the manifest is malformed") from error
    finally:
        body[:] = bytes(len(body))


def _cipher(fdk: Secret) -> AESGCM:
    key = bytearray(KEY_BYTES)
    HKDF(SHA256(), KEY_BYTES, salt=None, info=_HKDF_INFO).derive_into(fdk.reveal(), key)
    try:
        return AESGCM(key)
    finally:
        key[:] = bytes(KEY_BYTES)


def _parse(body: memoryview) -> Manifest:
    start = _LENGTH_BYTES
    end = start + int.from_bytes(body[:start], "big")
    fields = Fields(strict_json.loads(bytes(body[start:end]), max_bytes=MAX_MANIFEST_BYTES), "manifest")
    fields.only("chunk_bytes", "blobs")
    if fields.integer("chunk_bytes") != CHUNK_BYTES:
        raise ManifestRefusedError("the chunks have an unknown size")
    members = [Fields(member, "blob") for member in fields.array("blobs")]
    keys = body[end:]
    if not 0 < len(members) <= MAX_BLOBS or len(keys) != KEY_BYTES * len(members):
        raise ManifestRefusedError("the number of blobs is wrong")
    blobs = [
        _parse_blob(member, keys[index * KEY_BYTES : (index + 1) * KEY_BYTES])
        for index, member in enumerate(members)
    ]
    _check_whole(blobs)
    return Manifest(tuple(blobs))


def _parse_blob(member: Fields, key: memoryview) -> SealedBlob:
    member.only("name", "chunks")
    name = member.text("name")
    chunks = member.integer("chunks")
    if not _BLOB_NAME.fullmatch(name) or not 0 <= chunks <= MAX_CHUNKS:
        raise ManifestRefusedError("a blob is malformed")
    return SealedBlob(name, chunks, Secret(key))


def _check_whole(blobs: Sequence[SealedBlob]) -> None:
    if len({blob.name for blob in blobs}) != len(blobs):
        raise ManifestRefusedError("a blob occurs twice")
    if sum(blob.chunks for blob in blobs) > MAX_CHUNKS:
        raise ManifestRefusedError("the blobs are too large together")
