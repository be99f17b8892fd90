"""The agent's side of the node's cache: what it leaves there, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, Stage, UnavailableError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.media_types import LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.image.limits import DEFAULT_LIMITS

IMAGE = Reference.parse("registry.example/app:1")
BLOB = b"ciphertext" * 1000
ENCRYPTED = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
PLAIN = "application/vnd.oci.image.layer.v1.tar+gzip"


class Registry:
    def __init__(self, *chunks):
        self.chunks = chunks or (BLOB[:100], BLOB[100:])
        self.asked = 0

    def blob(self, reference, digest, *, offset=0):
        self.asked += 1
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def describe(media_type=ENCRYPTED):
    return Descriptor(media_type, Digest.of(BLOB), len(BLOB))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "sha256").mkdir()
    return tmp_path


def left(directory):
    return [path.name for path in (directory / "sha256").iterdir()]


def fetch(directory, registry, descriptor=None):
    source = CacheThenRegistry(BlobCache(directory), registry)
    return b"".join(source.open(IMAGE, descriptor or describe()))


def test_ciphertext_that_was_fetched_is_there_for_the_next_pod(directory):
    registry = Registry()
    assert fetch(directory, registry) == fetch(directory, registry) == BLOB
    assert registry.asked == 1
    assert left(directory) == [Digest.of(BLOB).hex]


@pytest.mark.parametrize("media_type", [PLAIN, "application/unknown", "application/unknown+encrypted"])
def test_plaintext_is_never_left_on_the_node(directory, media_type):
    assert fetch(directory, Registry(), describe(media_type)) == BLOB
    assert left(directory) == []


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, replace(DEFAULT_LIMITS, spool_bytes=1)])
@pytest.mark.parametrize(
    "annotations", [{}, {"org.opencontainers.image.enc.keys.provider.attestation-agent": "e30="}]
)
def test_plaintext_that_a_manifest_calls_encrypted_is_not_even_fetched(directory, annotations, limits):
    descriptor = replace(describe(), annotations=annotations)
    layer = Layer(IMAGE, descriptor, LayerMediaType.parse(ENCRYPTED), Digest.of(b"tar"))
    registry = Registry()
    source = CacheThenRegistry(BlobCache(directory), registry)
    with pytest.raises(EnclaveCcError):
        list(open_layer(layer, source=source, keys=KeyRing(), limits=limits))
    assert registry.asked == 0
    assert left(directory) == []


def test_what_is_not_what_it_should_be_is_passed_on_and_not_kept(directory):
    assert fetch(directory, Registry(b"a lie")) == b"a lie"
    assert left(directory) == []


def test_a_fetch_that_fails_or_is_given_up_leaves_nothing(directory):
    gone = UnavailableError("registry-unavailable", "gone", stage=Stage.FETCH)
    with pytest.raises(UnavailableError):
        fetch(directory, Registry(BLOB[:100], gone))
    chunks = CacheThenRegistry(BlobCache(directory), Registry()).open(IMAGE, describe())
    next(chunks)
    chunks.close()
    assert left(directory) == []


def test_a_cache_that_takes_nothing_is_no_obstacle(tmp_path):
    assert fetch(tmp_path / "absent", Registry()) == BLOB
    in_the_way = tmp_path / "sha256" / Digest.of(BLOB).hex
    in_the_way.mkdir(parents=True)
    assert fetch(tmp_path, Registry()) == BLOB


def test_a_full_disk_is_no_obstacle(directory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("enclave_cc.transport.blobs.directory.os.write", full)
    assert fetch(directory, Registry()) == BLOB
    assert left(directory) == []


def test_a_copy_that_was_wrong_is_removed_for_everybody_and_replaced(directory):
    path = directory / "sha256" / Digest.of(BLOB).hex
    path.write_bytes(bytes(len(BLOB)))
    source = CacheThenRegistry(BlobCache(directory), Registry())
    assert b"".join(source.open(IMAGE, describe())) != BLOB
    assert source.reject(describe())
    assert not path.exists()
    assert b"".join(source.open(IMAGE, describe())) == BLOB
    assert not source.reject(describe())
    assert path.read_bytes() == BLOB
