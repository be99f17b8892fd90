"""The golden vectors: what is written today is what was written then, and the page is enough to read it."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tests.formats.sealed.golden import write
from tests.formats.sealed.test_erofs import read_tree

from enclave_cc.core.secret import Secret
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, ChunkOpener
from enclave_cc.formats.sealed.manifest import Binding, open_manifest

VECTORS = json.loads((write.HERE / "vectors.json").read_text())
BLOBS = VECTORS["blobs"]
MANIFEST = (write.HERE / "manifest.sealed").read_bytes()


def plaintext(number: int) -> bytes:
    return write.padded((write.HERE / BLOBS[number]["plaintext"]).read_bytes())


def by_the_page(number: int) -> bytes:
    """Seal a blob as the page says, with nothing of ours."""
    cipher = AESGCM(bytes.fromhex(BLOBS[number]["key"]))
    data = plaintext(number)
    chunks = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    return b"".join(cipher.encrypt(i.to_bytes(12, "little"), chunk, b"") for i, chunk in enumerate(chunks))


def test_the_tree_is_written_as_then():
    layers = [(write.HERE / name).read_bytes() for name in write.LAYERS]
    assert write.metadata_of(layers) == plaintext(0)


@pytest.mark.parametrize("number", range(len(BLOBS)))
def test_blobs_are_sealed_as_then_and_as_the_page_says(number):
    vector = BLOBS[number]
    blob = write.seal(number, plaintext(number))
    assert blob == by_the_page(number)
    assert len(blob) == vector["chunks"] * 65552
    assert blob[:16].hex() == vector["first_16_bytes"]
    assert [blob[end - 16 : end].hex() for end in range(65552, len(blob) + 1, 65552)] == vector["tags"]
    assert hashlib.sha256(blob).hexdigest() == vector["sha256"]
    assert hashlib.sha256(plaintext(number)).hexdigest() == vector["plaintext_sha256"]


@pytest.mark.parametrize("number", range(len(BLOBS)))
def test_blobs_are_opened(number):
    blob, out = by_the_page(number), bytearray(CHUNK_BYTES)
    opener = ChunkOpener(Secret(bytes.fromhex(BLOBS[number]["key"])))
    for index in range(BLOBS[number]["chunks"]):
        opener.open_into(index, blob[index * 65552 : (index + 1) * 65552], out)
        assert out == plaintext(number)[index * 65536 : (index + 1) * 65536]


def test_the_manifest_is_sealed_as_then():
    assert write.manifest([write.seal(number, plaintext(number)) for number in range(len(BLOBS))]) == MANIFEST
    assert hashlib.sha256(MANIFEST).hexdigest() == VECTORS["manifest_sha256"]


def test_the_manifest_is_opened():
    binding = Binding(**dict(zip(("pod_uid", "container_id", "image_digest"), bound(), strict=True)))
    opened = open_manifest(MANIFEST, fdk=Secret(bytes.fromhex(VECTORS["fdk"])), binding=binding)
    found = [(blob.name, blob.chunks, bytes(blob.key.reveal()).hex()) for blob in opened.blobs]
    assert found == [(blob["name"], blob["chunks"], blob["key"]) for blob in BLOBS]


def bound() -> list[str]:
    return [VECTORS["binding"][part] for part in ("pod", "container", "image_digest")]


def test_the_page_alone_is_enough_to_open_the_manifest():
    head = b"enclave-cc sealed image\n" + b"\0\0\0\2"
    assert MANIFEST[:28] == head
    assert MANIFEST[28:40].hex() == VECTORS["manifest_nonce"]
    info = b"enclave-cc sealed image, manifest, v1"
    key = HKDF(SHA256(), 32, salt=None, info=info).derive(bytes.fromhex(VECTORS["fdk"]))
    binding = b"".join(len(part).to_bytes(4, "big") + part.encode() for part in bound())
    body = AESGCM(key).decrypt(MANIFEST[28:40], MANIFEST[40:], head + binding)
    end = 4 + int.from_bytes(body[:4], "big")
    members = ",".join(f'{{"chunks":{blob["chunks"]},"name":"{blob["name"]}"}}' for blob in BLOBS)
    text = f'{{"blobs":[{members}],"chunk_bytes":65536}}'
    assert body[4:end].decode() == text
    assert body[end:].hex() == "".join(blob["key"] for blob in BLOBS)


def test_the_tree_says_what_the_layers_say():
    tree = read_tree(plaintext(0))
    hostname, large = tree[b"/etc/hostname"], tree[b"/bin/large"]
    device = plaintext(0) + plaintext(1) + plaintext(2)
    assert b"/etc/hidden" not in tree
    assert b"/opaque/old" not in tree
    assert b"/opaque/new" in tree
    assert tree[b"/etc/same-as-hostname"]["nid"] == hostname["nid"]
    assert (hostname["links"], hostname["mtime"]) == (2, (-2, 749_999_999))
    assert tree[b"/etc"]["owner"] == (100_000, 4_000_000_000)
    assert device[hostname["union"] * 512 :][: hostname["size"]] == b"golden\n"
    assert device[large["union"] * 512 :][: large["size"]] == bytes(range(1, 252)) * 300
    assert large["xattrs"] == {b"user.note": b"v"}
    assert tree[b"/bin/long-link"]["data"] == b"x/" * 300 + b"end"
    assert tree[b"/real"]["size"] == 300_000
    assert {b"/names/" + b"n" * 255, b"/names/\xff\xfe"} <= tree.keys()
