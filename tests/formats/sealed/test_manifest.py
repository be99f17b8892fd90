"""A manifest opens with its key, for its pod, container and image, unchanged; and not otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.secret import Secret
from enclave_cc.core.strict_json import canonical
from enclave_cc.formats.sealed.manifest import (
    MAX_BLOBS,
    MAX_MANIFEST_BYTES,
    Binding,
    Manifest,
    ManifestRefusedError,
    SealedBlob,
    UnknownFormatError,
    open_manifest,
    seal_manifest,
)

FDK = bytes(range(32))
NONCE = bytes(12)
BINDING = Binding("pod", "container", "sha256:image")
MAGIC = b"enclave-cc sealed image\n"
PREFIX = MAGIC + b"\0\0\0\2"


def manifest(count: int = 3) -> Manifest:
    return Manifest(
        tuple(
            SealedBlob(f"{index:032x}.blob", index, Secret(bytes([index % 255 + 1]) * 32))
            for index in range(count)
        )
    )


def sealed(count: int = 3) -> bytes:
    return seal_manifest(manifest(count), fdk=Secret(FDK), binding=BINDING, nonce=NONCE)


def opened(data: bytes, *, fdk: bytes = FDK, binding: Binding = BINDING) -> Manifest:
    return open_manifest(data, fdk=Secret(fdk), binding=binding)


def forged(members: object, keys: bytes) -> bytes:
    """Authentic, whatever it says."""
    text = canonical(members) if not isinstance(members, bytes) else members
    key = HKDF(SHA256(), 32, salt=None, info=b"enclave-cc sealed image, manifest, v1").derive(FDK)
    body = len(text).to_bytes(4, "big") + text + keys
    return PREFIX + NONCE + AESGCM(key).encrypt(NONCE, body, BINDING.associated_data())


def test_what_was_sealed_is_opened():
    assert opened(sealed()) == manifest()


def test_the_format_is_the_documented_one():
    blobs = [{"name": f"{index:032x}.blob", "chunks": index} for index in range(3)]
    keys = b"".join(bytes([index + 1]) * 32 for index in range(3))
    assert sealed() == forged({"chunk_bytes": 65536, "blobs": blobs}, keys)


def test_the_most_blobs_fit_into_the_largest_manifest():
    assert len(sealed(MAX_BLOBS)) < MAX_MANIFEST_BYTES
    assert len(opened(sealed(MAX_BLOBS)).blobs) == MAX_BLOBS


def test_another_key_is_refused():
    with pytest.raises(ManifestRefusedError):
        opened(sealed(), fdk=bytes(32))


@pytest.mark.parametrize("field", ["pod_uid", "container_id", "image_digest"])
def test_another_binding_is_refused(field):
    with pytest.raises(ManifestRefusedError):
        opened(sealed(), binding=replace(BINDING, **{field: "another"}))


def test_parts_of_the_binding_do_not_run_together():
    with pytest.raises(ManifestRefusedError):
        opened(sealed(), binding=Binding("podc", "ontainer", "sha256:image"))


@given(st.integers(0, len(sealed()) * 8 - 1))
def test_a_changed_bit_is_refused(bit):
    data = bytearray(sealed())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((ManifestRefusedError, UnknownFormatError)):
        opened(bytes(data))


@given(st.integers(0, len(sealed()) - 1))
def test_a_cut_off_manifest_is_refused(length):
    with pytest.raises((ManifestRefusedError, UnknownFormatError)):
        opened(sealed()[:length])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_the_declared_error(data):
    with pytest.raises((ManifestRefusedError, UnknownFormatError)):
        opened(data)
    with pytest.raises(ManifestRefusedError):
        opened(PREFIX + data)


def test_an_unknown_version_is_named():
    with pytest.raises(UnknownFormatError):
        opened(MAGIC + b"\0\0\0\1" + sealed()[len(PREFIX) :])


def test_a_manifest_that_is_too_long_is_not_even_decrypted():
    with pytest.raises(ManifestRefusedError):
        opened(PREFIX + bytes(MAX_MANIFEST_BYTES))


BLOB = {"name": "0" * 32 + ".blob", "chunks": 1}
OTHER = {"name": "1" * 32 + ".blob", "chunks": 1}
MALFORMED = {
    "no JSON": (b"{", bytes(32)),
    "no blobs": ({"chunk_bytes": 65536, "blobs": []}, b""),
    "too few keys": ({"chunk_bytes": 65536, "blobs": [BLOB, OTHER]}, bytes(32)),
    "a key too many": ({"chunk_bytes": 65536, "blobs": [BLOB]}, bytes(64)),
    "another chunk size": ({"chunk_bytes": 4096, "blobs": [BLOB]}, bytes(32)),
    "an unknown member": ({"chunk_bytes": 65536, "blobs": [BLOB], "more": 1}, bytes(32)),
    "a name that is a path": ({"chunk_bytes": 65536, "blobs": [BLOB | {"name": "../x.blob"}]}, bytes(32)),
    "a negative size": ({"chunk_bytes": 65536, "blobs": [BLOB | {"chunks": -1}]}, bytes(32)),
    "a huge size": ({"chunk_bytes": 65536, "blobs": [BLOB | {"chunks": 1 << 30}]}, bytes(32)),
    "huge blobs": (
        {"chunk_bytes": 65536, "blobs": [BLOB | {"chunks": 1 << 25}, OTHER | {"chunks": 1 << 25}]},
        bytes(64),
    ),
    "a blob twice": ({"chunk_bytes": 65536, "blobs": [BLOB, BLOB]}, bytes(64)),
    "a blob that is no object": ({"chunk_bytes": 65536, "blobs": [1]}, bytes(32)),
}


@pytest.mark.parametrize(("members", "keys"), MALFORMED.values(), ids=MALFORMED)
def test_authentic_nonsense_is_refused(members, keys):
    with pytest.raises(ManifestRefusedError):
        opened(forged(members, keys))


def test_wiping_forgets_every_key():
    forgotten = manifest()
    forgotten.wipe()
    assert [len(blob.key) for blob in forgotten.blobs] == [0, 0, 0]
