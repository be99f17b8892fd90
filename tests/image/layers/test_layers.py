import base64
import dataclasses
import gc
import gzip
import json
import os
import threading
import time

import pytest
import zstandard
from tests.simulators.memory_registry import MemoryResources

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import (
    EnclaveCcError,
    InvalidInputError,
    RefusedError,
    UnavailableError,
)
from enclave_cc.core.findings import Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket, encode_packets
from enclave_cc.formats.ocicrypt.layer_cipher import (
    PUBLIC_OPTIONS_ANNOTATION,
    LayerEncryptor,
    PrivateOptions,
    PublicOptions,
)
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.image.limits import DEFAULT_LIMITS, Limits

KID = "kbs:///default/key/1"
REFERENCE = Reference.parse("registry.example/team/app:1")
TAR = os.urandom(200_000) + bytes(300_000)
# Nothing fits this spool, so everything streams.
STREAMING = Limits(spool_bytes=10)


class Bytes:
    """A blob source of one blob."""

    def __init__(self, data, chunk_bytes=10_000):
        self.data, self.chunk_bytes = data, chunk_bytes

    def open(self, _reference, _descriptor):
        for start in range(0, len(self.data), self.chunk_bytes):
            yield self.data[start : start + self.chunk_bytes]


class Crypt:
    """An encrypted layer, each part of which a test may bend."""

    def __init__(self, tar=TAR, compressed=None):
        self.kek = Secret.random(32)
        self.compressed = gzip.compress(tar, mtime=0) if compressed is None else compressed
        self.options = PrivateOptions.fresh(Digest.of(self.compressed))
        self.diff_id = Digest.of(tar)
        self.resources = MemoryResources({KID: bytes(self.kek.reveal())})
        self.seal()

    def seal(self):
        encryptor = LayerEncryptor(self.options)
        self.blob = encryptor.update(self.compressed)
        self.public = encryptor.finish()
        self.packets = (AnnotationPacket.wrap(self.options, kek=self.kek, kid=KID),)

    def layer(self):
        annotations = {
            PUBLIC_OPTIONS_ANNOTATION: self.public.encode(),
            KEYS_ANNOTATION: encode_packets(self.packets),
        }
        return _layer(self.blob, self.diff_id, Compression.GZIP, annotations)

    def open(self, **options):
        return open_layer(self.layer(), source=Bytes(self.blob), keys=KeyRing(self.resources), **options)


def _layer(blob, diff_id, compression=Compression.GZIP, annotations=None):
    media_type = LayerMediaType(compression, encrypted=annotations is not None)
    descriptor = Descriptor(str(media_type), Digest.of(blob), len(blob), annotations or {})
    return Layer(REFERENCE, descriptor, media_type, diff_id)


def _plain(blob, diff_id, compression=Compression.GZIP, source=None, **options):
    layer = _layer(blob, diff_id, compression)
    return open_layer(layer, source=source or Bytes(blob), keys=KeyRing(), **options)


def joined(pieces):
    """Put a layer together; a piece is only valid until the next one is asked for."""
    return b"".join(bytes(piece) for piece in pieces)


def _refused(chunks, code, rule):
    """Read to the end; require the refusal, its one failed finding, and hand out what came before."""
    seen = []
    with pytest.raises(RefusedError) as caught:
        seen.extend(bytes(chunk) for chunk in chunks)
    error = caught.value
    assert error.code == code
    (failed,) = [finding for finding in error.findings if finding.outcome is Outcome.FAILED]
    assert failed.rule == rule
    assert failed.expected
    assert failed.actual
    return seen


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, STREAMING], ids=["spooled", "streamed"])
def test_an_encrypted_layer_becomes_its_tar(limits):
    assert joined(Crypt().open(limits=limits)) == TAR


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, STREAMING], ids=["spooled", "streamed"])
@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        (Compression.NONE, lambda data: data),
        (Compression.GZIP, lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])),
        (Compression.ZSTD, lambda data: zstandard.compress(data[:7]) + zstandard.compress(data[7:])),
    ],
)
def test_a_plain_layer_of_every_compression_becomes_its_tar(compression, compress, limits):
    assert joined(_plain(compress(TAR), Digest.of(TAR), compression, limits=limits)) == TAR


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_registered_digest_serves_as_diff_id(algorithm):
    assert joined(_plain(gzip.compress(TAR), Digest.of(TAR, algorithm))) == TAR


def test_a_tampered_ciphertext_fails_the_hmac_and_yields_nothing():
    crypt = Crypt()
    crypt.blob = crypt.blob[:100] + bytes([crypt.blob[100] ^ 1]) + crypt.blob[101:]
    assert _refused(crypt.open(), "layer-hmac-mismatch", "image.layer.hmac") == []


def test_a_tampered_ciphertext_that_streams_is_refused_at_the_end():
    # Without compression, so that nothing but the HMAC can notice before the diff id does.
    crypt = Crypt()
    crypt.blob = crypt.blob[:-1] + bytes([crypt.blob[-1] ^ 1])
    _refused(crypt.open(limits=STREAMING), "layer-hmac-mismatch", "image.layer.hmac")


def test_an_hmac_made_for_another_ciphertext_is_refused():
    crypt = Crypt()
    crypt.public = PublicOptions(os.urandom(32))
    assert _refused(crypt.open(), "layer-hmac-mismatch", "image.layer.hmac") == []


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, STREAMING], ids=["spooled", "streamed"])
def test_other_bytes_than_the_manifest_names_are_refused(limits):
    blob = gzip.compress(TAR)
    lie = bytes([blob[0], blob[1], blob[2], blob[3], blob[4] ^ 1]) + blob[5:]
    chunks = _plain(blob, Digest.of(TAR), source=Bytes(lie), limits=limits)
    _refused(chunks, "layer-digest-mismatch", "image.layer.digest")


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, STREAMING], ids=["spooled", "streamed"])
@pytest.mark.parametrize("bend", [lambda blob: blob[:-1], lambda blob: blob + b"x"], ids=["short", "long"])
def test_another_length_than_the_manifest_names_is_refused(bend, limits):
    blob = gzip.compress(TAR)
    chunks = _plain(blob, Digest.of(TAR), source=Bytes(bend(blob)), limits=limits)
    _refused(chunks, "layer-digest-mismatch", "image.layer.size")


def test_a_wrong_digest_explains_a_stream_that_does_not_inflate():
    blob = gzip.compress(TAR)
    chunks = _plain(blob, Digest.of(TAR), source=Bytes(bytes(len(blob))), limits=STREAMING)
    assert _refused(chunks, "layer-digest-mismatch", "image.layer.digest") == []


def test_a_source_that_never_ends_is_left_alone_after_the_announced_length():
    served = []

    class Endless:
        def open(self, _reference, _descriptor):
            while True:
                served.append(1)
                yield bytes(1000)

    chunks = _plain(gzip.compress(TAR), Digest.of(TAR), source=Endless())
    _refused(chunks, "layer-digest-mismatch", "image.layer.size")
    assert sum(served) < 2000


def test_another_content_than_the_configuration_says_is_refused():
    chunks = _plain(gzip.compress(TAR), Digest.of(b"another"))
    _refused(chunks, "diff-id-mismatch", "image.layer.diff-id")


def test_a_key_that_was_wrapped_for_another_layer_is_refused():
    crypt = Crypt()
    crypt.options = dataclasses.replace(crypt.options, digest=Digest.of(b"another"))
    crypt.seal()
    _refused(crypt.open(), "layer-plain-digest-mismatch", "image.layer.plain-digest")


def test_a_layer_that_does_not_inflate_is_refused():
    for blob in (b"no gzip at all", b"", gzip.compress(TAR)[:-9], gzip.compress(TAR) + b"tail"):
        _refused(_plain(blob, Digest.of(TAR)), "layer-corrupt", "image.layer.compression")
    for blob in (b"no zstd at all", b"", zstandard.compress(TAR) + b"tail"):
        _refused(_plain(blob, Digest.of(TAR), Compression.ZSTD), "layer-corrupt", "image.layer.compression")


def test_a_zstd_stream_that_breaks_off_is_refused():
    with pytest.raises(RefusedError):
        list(_plain(zstandard.compress(TAR)[:-1000], Digest.of(TAR), Compression.ZSTD))


@pytest.mark.parametrize(
    "limits", [Limits(uncompressed_layer_bytes=100_000), Limits(ratio=2, ratio_free_bytes=9)]
)
@pytest.mark.parametrize(
    ("compression", "compress"),
    [(Compression.GZIP, gzip.compress), (Compression.ZSTD, zstandard.compress)],
)
def test_a_layer_that_grows_beyond_a_limit_is_refused_while_it_grows(compression, compress, limits):
    bomb = bytes(300_000_000)
    blob, digest = compress(bomb), Digest.of(bomb)
    del bomb
    seen = _refused(
        _plain(blob, digest, compression, limits=limits),
        "image-limit-exceeded",
        "image.limit.uncompressed-bytes",
    )
    assert sum(map(len, seen)) <= 2 * len(blob) + 100_000


def test_announcing_a_large_layer_does_not_raise_its_limit():
    bomb = bytes(50_000_000)
    blob = gzip.compress(bomb)
    layer = _layer(blob, Digest.of(bomb))
    lie = dataclasses.replace(layer, descriptor=dataclasses.replace(layer.descriptor, size=10**9))
    limits = Limits(ratio=2, ratio_free_bytes=9, spool_bytes=1_000_000)
    chunks = open_layer(lie, source=Bytes(blob), keys=KeyRing(), limits=limits)
    seen = _refused(chunks, "image-limit-exceeded", "image.limit.uncompressed-bytes")
    assert sum(map(len, seen)) <= 2_000_000


def test_small_layers_of_sparse_files_may_exceed_the_ratio():
    sparse = bytes(10_000_000)
    assert sum(map(len, _plain(gzip.compress(sparse), Digest.of(sparse)))) == len(sparse)


def test_a_key_that_does_not_open_the_packet_is_refused_before_anything_is_fetched():
    crypt = Crypt()
    crypt.resources = MemoryResources({KID: bytes(32)})
    layer, opened = crypt.layer(), []

    class Watched:
        def open(self, _reference, _descriptor):
            opened.append(1)
            yield crypt.blob

    chunks = open_layer(layer, source=Watched(), keys=KeyRing(crypt.resources))
    assert _refused(chunks, "layer-key-refused", "image.layer.key") == []
    assert opened == []


def test_a_broker_that_does_not_answer_is_reported_as_such():
    crypt = Crypt()
    crypt.resources = MemoryResources({})
    with pytest.raises(UnavailableError):
        list(crypt.open())


def test_any_of_several_packets_may_open():
    crypt = Crypt()
    others = tuple(
        AnnotationPacket.wrap(crypt.options, kek=Secret.random(32), kid=kid) for kid in ("kbs:///a/b/c", KID)
    )
    crypt.packets = (*others, *crypt.packets)
    assert joined(crypt.open()) == TAR
    assert crypt.resources.asked == ["kbs:///a/b/c", KID, KID]


def test_a_public_nonce_never_replaces_the_wrapped_one():
    crypt = Crypt()
    layer = crypt.layer()
    annotations = dict(layer.descriptor.annotations)
    annotations[PUBLIC_OPTIONS_ANNOTATION] = _with_nonce(crypt.public, os.urandom(16))
    bent = dataclasses.replace(
        layer, descriptor=dataclasses.replace(layer.descriptor, annotations=annotations)
    )
    with pytest.raises(InvalidInputError) as caught:
        list(open_layer(bent, source=Bytes(crypt.blob), keys=KeyRing(crypt.resources)))
    assert caught.value.code == "layer-encryption-invalid"


@pytest.mark.parametrize("missing", [PUBLIC_OPTIONS_ANNOTATION, KEYS_ANNOTATION])
def test_an_encrypted_layer_without_its_annotations_is_bad_input(missing):
    crypt = Crypt()
    layer = crypt.layer()
    annotations = {key: text for key, text in layer.descriptor.annotations.items() if key != missing}
    bent = dataclasses.replace(
        layer, descriptor=dataclasses.replace(layer.descriptor, annotations=annotations)
    )
    with pytest.raises(InvalidInputError) as caught:
        list(open_layer(bent, source=Bytes(crypt.blob), keys=KeyRing(crypt.resources)))
    assert caught.value.code == "layer-key-invalid"


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, STREAMING], ids=["spooled", "streamed"])
def test_a_reader_that_goes_away_stops_the_stages(limits):
    before = set(threading.enumerate())
    closed = threading.Event()

    class Long:
        def open(self, _reference, _descriptor):
            try:
                yield from Bytes(data).open(None, None)
            finally:
                closed.set()

    data = os.urandom(30_000_000)
    chunks = _plain(data, Digest.of(data), Compression.NONE, source=Long(), limits=limits)
    next(chunks)
    chunks.close()
    gc.collect()
    assert closed.wait(5)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_a_source_that_fails_midway_is_heard():
    class Failing:
        def open(self, _reference, _descriptor):
            yield b"x"
            raise UnavailableError("registry-unavailable", "gone", stage="fetch")

    with pytest.raises(UnavailableError):
        list(_plain(gzip.compress(TAR), Digest.of(TAR), source=Failing()))


class Cached:
    """A cache directory with one blob in it, and a registry that has the right one."""

    def __init__(self, directory, blob, cached):
        (directory / "sha256").mkdir()
        self.file = directory / "sha256" / Digest.of(blob).hex
        self.file.write_bytes(cached)
        self.cache = BlobCache(directory)
        self.asked = 0
        self.blob_bytes = blob

    def blob(self, _reference, _digest, *, offset=0):
        assert offset == 0
        self.asked += 1
        yield self.blob_bytes

    def source(self):
        return CacheThenRegistry(self.cache, self)


def test_a_good_cache_spares_the_registry(tmp_path):
    blob = gzip.compress(TAR)
    cached = Cached(tmp_path, blob, blob)
    assert joined(_plain(blob, Digest.of(TAR), source=cached.source())) == TAR
    assert cached.asked == 0


@pytest.mark.parametrize(
    ("change", "downloads"),
    [
        (lambda file: os.truncate(file, 3), 1),
        (lambda file: os.truncate(file, 1 << 40), 1),
        (lambda file: file.write_bytes(bytes(file.stat().st_size)), 1),
        (lambda file: file.unlink(), 0),
    ],
    ids=["cut", "endless", "rewritten", "removed"],
)
def test_a_cached_file_that_changes_after_it_was_looked_at_costs_a_download_at_most(
    tmp_path, change, downloads
):
    blob = gzip.compress(os.urandom(100_000) + TAR)
    cached = Cached(tmp_path, blob, blob)
    source, changed = cached.source(), []

    class Changing:
        reject = staticmethod(source.reject)

        def open(self, reference, descriptor):
            chunks = source.open(reference, descriptor)
            if not changed:
                changed.append(change(cached.file))
            return chunks

    plain = gzip.decompress(blob)
    assert joined(_plain(blob, Digest.of(plain), source=Changing())) == plain
    assert cached.asked == downloads


def test_a_revoked_key_does_not_open_what_the_node_still_has(tmp_path):
    crypt = Crypt()
    source = Cached(tmp_path, crypt.blob, crypt.blob).source()
    assert joined(open_layer(crypt.layer(), source=source, keys=KeyRing(crypt.resources))) == TAR
    chunks = open_layer(crypt.layer(), source=source, keys=KeyRing(MemoryResources({})))
    with pytest.raises(EnclaveCcError):
        list(chunks)


@pytest.mark.parametrize(
    "bend", [lambda blob: bytes(len(blob)), lambda _: b"short", lambda blob: blob + b"x"]
)
def test_a_cache_that_lies_costs_a_download_and_nothing_else(tmp_path, bend):
    blob = gzip.compress(TAR)
    cached = Cached(tmp_path, blob, bend(blob))
    assert joined(_plain(blob, Digest.of(TAR), source=cached.source())) == TAR
    assert cached.asked == 1


def test_a_cache_that_lies_about_a_streamed_layer_costs_one_attempt(tmp_path):
    blob = gzip.compress(TAR)
    cached = Cached(tmp_path, blob, bytes(len(blob)))
    with pytest.raises(UnavailableError) as caught:
        list(_plain(blob, Digest.of(TAR), source=cached.source(), limits=STREAMING))
    assert caught.value.code == "cache-blob-refused"
    assert caught.value.findings
    again = _plain(blob, Digest.of(TAR), source=cached.source(), limits=STREAMING)
    assert joined(again) == TAR


def test_a_registry_that_lies_after_the_cache_did_is_refused(tmp_path):
    blob = gzip.compress(TAR)
    cached = Cached(tmp_path, blob, bytes(len(blob)))
    cached.blob_bytes = bytes(len(blob))
    with pytest.raises(RefusedError) as caught:
        list(_plain(blob, Digest.of(TAR), source=cached.source()))
    assert caught.value.code == "layer-digest-mismatch"
    assert cached.asked == 1


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_what_is_no_file_in_the_cache_is_not_there(tmp_path, kind):
    blob = gzip.compress(TAR)
    cached = Cached(tmp_path, blob, blob)
    elsewhere = tmp_path / "elsewhere"
    cached.file.rename(elsewhere)
    match kind:
        case "symlink":
            cached.file.symlink_to(elsewhere)
        case "directory":
            cached.file.mkdir()
        case "fifo":
            os.mkfifo(cached.file)
    assert joined(_plain(blob, Digest.of(TAR), source=cached.source())) == TAR
    assert cached.asked == 1


def test_what_the_tenant_encrypted_opens_inside(world):
    world.publish()
    image = world.verify()
    for layer, tar in zip(image.layers, world.tars, strict=True):
        assert joined(open_layer(layer, source=world.registry, keys=KeyRing(world.resources))) == tar


def test_layers_encrypted_by_others_open(world, vectors):
    image, resources = _vector_image(world, vectors, "oci-encrypted")
    for layer in image.layers:
        options = {"source": world.registry, "keys": KeyRing(resources, insecure_allow_a256ctr=True)}
        assert len(joined(open_layer(layer, **options))) == 10240
    with pytest.raises(EnclaveCcError) as caught:
        list(open_layer(image.layers[1], source=world.registry, keys=KeyRing(resources)))
    assert caught.value.code == "layer-key-refused"


def test_plain_layers_made_by_others_open(world, vectors):
    image, resources = _vector_image(world, vectors, "oci-plain")
    for layer in image.layers:
        assert joined(open_layer(layer, source=world.registry, keys=KeyRing(resources)))


def _vector_image(world, vectors, name):
    layout = vectors / "oci" / name
    entry = Index.parse((layout / "index.json").read_bytes()).manifests[0]
    for blob in (layout / "blobs" / "sha256").iterdir():
        world.registry.blobs[f"sha256:{blob.name}"] = blob.read_bytes()
    world.registry.put_manifest(world.reference, "1", world.registry.blobs[str(entry.digest)], "")
    resources = MemoryResources({KID: (vectors / "oci" / "kek.bin").read_bytes()})
    policy = SignaturePolicy.insecure_accept_anything()
    return world.verify(policy=policy, resources=resources, require_encrypted=False), resources


def _with_nonce(public, nonce):
    document = json.loads(base64.b64decode(public.encode()))
    document["cipheroptions"]["nonce"] = base64.b64encode(nonce).decode()
    return base64.b64encode(json.dumps(document).encode()).decode()
