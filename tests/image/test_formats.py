"""Images of every kind that users have, from the registry to the sealed tree; and kinds that are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import struct
import tarfile

import pytest
import zstandard
from tests.simulators.memory_registry import MemoryRegistry, MemoryResources

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.device.device import VirtualDevice
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket, encode_packets
from enclave_cc.formats.ocicrypt.layer_cipher import (
    PUBLIC_OPTIONS_ANNOTATION,
    LayerEncryptor,
    PrivateOptions,
)
from enclave_cc.formats.sealed.erofs_reader import MetadataReader
from enclave_cc.formats.sealed.manifest import open_manifest
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.image.pull import open_layer, verify_image

REFERENCE = Reference.parse("registry.example/team/app:1")
BINDING = Binding("pod", "container", "sha256:image")
KID = "kbs:///default/key/1"
KEK = Secret(bytes(range(32)))
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
LAYER = OCI + "layer.v1.tar"
LAYER_LIMIT = DEFAULT_LIMITS.layers
AMD64 = {"os": "linux", "architecture": "amd64"}


def tar(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("WH_", ".wh."))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


A, B = tar(a="one", b="two" * 5000), tar(WH_a="", c="three")
TREE = {"b": "two" * 5000, "c": "three"}


def halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


def gzipped(data: bytes) -> bytes:
    # The same bytes whenever they are asked for: no time inside.
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


def members(data: bytes) -> bytes:
    """Several gzip members with an empty one at the end that carries extra data, as eStargz has it."""
    empty = gzipped(b"")
    footer = empty[:3] + b"\4" + empty[4:10] + struct.pack("<H", 26) + b"SG\x16\0" + b"0" * 16 + b"STARGZ"
    return b"".join(map(gzipped, halves(data))) + footer + empty[10:]


def frames(data: bytes) -> bytes:
    """Several zstd frames with skippable ones before, between and behind, as zstd:chunked has them."""
    skippable = struct.pack("<II", 0x184D2A50, 12) + b"GNUlInUx" + b"0123"
    return skippable + skippable.join(map(zstd, halves(data))) + skippable * 2


class Publisher:
    """Puts documents and blobs into a registry, whatever they are."""

    def __init__(self):
        self.registry = MemoryRegistry()

    def blob(self, data: bytes, media_type: str, algorithm: str = "sha256", **members_) -> dict:
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        self.registry.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **members_}

    def config(self, diff_ids: list[str], *, media_type=OCI + "config.v1+json", **changes) -> dict:
        document = {**AMD64, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **changes}
        return self.blob(json.dumps(document).encode(), media_type)

    def document(
        self, members_: dict, *, tag: str = "", media_type=OCI + "manifest.v1+json", **extra
    ) -> dict:
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, **members_}).encode()
        digest = str(Digest.of(body))
        for name in filter(None, (tag, digest)):
            self.registry.put_manifest(REFERENCE, name, body, media_type)
        return {"mediaType": media_type, "digest": digest, "size": len(body), **extra}

    def image(self, *layers: tuple[bytes, dict], tag: str = "1", config: dict | None = None, **extra) -> dict:
        """Publish layers given as tars and their descriptors."""
        diff_ids = [str(Digest.of(plain)) for plain, _ in layers]
        members_ = {"config": config or self.config(diff_ids), "layers": [entry for _, entry in layers]}
        return self.document({**members_, **extra}, tag=tag)

    def both(self, media_type: str, compress=bytes, algorithm: str = "sha256"):
        return [(plain, self.blob(compress(plain), media_type, algorithm)) for plain in (A, B)]

    def encrypted(self, media_type: str, compress=bytes):
        return [(plain, self._encrypted(compress(plain), media_type)) for plain in (A, B)]

    def _encrypted(self, compressed: bytes, media_type: str) -> dict:
        options = PrivateOptions.fresh(Digest.of(compressed))
        encryptor = LayerEncryptor(options)
        sealed = encryptor.update(compressed)
        packet = AnnotationPacket.wrap(options, kek=KEK, kid=KID)
        annotations = {
            PUBLIC_OPTIONS_ANNOTATION: encryptor.finish().encode(),
            KEYS_ANNOTATION: encode_packets((packet,)),
        }
        return self.blob(sealed, media_type, annotations=annotations)


def pull(publisher: Publisher, directory) -> dict[str, str]:
    """Verify, open and seal an image; return the files in it."""
    resources = MemoryResources({KID: bytes(KEK.reveal())})
    image = verify_image(
        REFERENCE,
        manifest_digest=None,
        registry=publisher.registry,
        resources=resources,
        policy=SignaturePolicy.insecure_accept_anything(),
        require_encrypted=False,
    )
    fdk = Secret.random(32)
    writer = SealedImageWriter(directory, fdk=fdk, binding=BINDING)
    for layer in image.layers:
        writer.add_layer(open_layer(layer, source=publisher.registry, keys=KeyRing(resources)))
    writer.finish()
    manifest = open_manifest((directory / "manifest.sealed").read_bytes(), fdk=fdk, binding=BINDING)
    device = VirtualDevice.of_directory(directory, manifest, on_poison=lambda finding: None)
    try:
        return files(device.reader())
    finally:
        device.close()


def files(device) -> dict[str, str]:
    def read(offset: int, size: int) -> bytes:
        out = memoryview(bytearray(size))
        return bytes(out[: device.read_into(offset, out)])

    reader, found = MetadataReader(read), {}
    root = reader.inode(reader.root)
    for block in range(root.blocks):
        for entry in reader.entries(root, block):
            if entry.kind == stat.S_IFREG:
                inode = reader.child(entry)
                found[entry.name.decode()] = read(inode.address, inode.size).decode()
    return found


LAYERS = {
    "OCI": (LAYER, bytes),
    "OCI gzip": (LAYER + "+gzip", gzipped),
    "OCI gzip of several members": (LAYER + "+gzip", members),
    "OCI zstd": (LAYER + "+zstd", zstd),
    "OCI zstd of several frames": (LAYER + "+zstd", frames),
    "OCI nondistributable": (OCI + "layer.nondistributable.v1.tar+gzip", gzipped),
    "Docker": (DOCKER + "image.rootfs.diff.tar", bytes),
    "Docker gzip": (DOCKER + "image.rootfs.diff.tar.gzip", gzipped),
    "Docker zstd": (DOCKER + "image.rootfs.diff.tar.zstd", zstd),
    "Docker foreign": (DOCKER + "image.rootfs.foreign.diff.tar.gzip", gzipped),
}
ENCRYPTED = {
    "tar": (LAYER + "+encrypted", bytes),
    "gzip": (LAYER + "+gzip+encrypted", gzipped),
    "gzip of several members": (LAYER + "+gzip+encrypted", members),
    "zstd": (LAYER + "+zstd+encrypted", zstd),
    "zstd of several frames": (LAYER + "+zstd+encrypted", frames),
    "nondistributable": (OCI + "layer.nondistributable.v1.tar+zstd+encrypted", zstd),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_every_type_are_opened(tmp_path, kind):
    publisher = Publisher()
    publisher.image(*publisher.both(*LAYERS[kind]))
    assert pull(publisher, tmp_path / "image") == TREE


@pytest.mark.parametrize("kind", ENCRYPTED)
def test_encrypted_layers_of_every_type_are_opened(tmp_path, kind):
    publisher = Publisher()
    publisher.image(*publisher.encrypted(*ENCRYPTED[kind]))
    assert pull(publisher, tmp_path / "image") == TREE


@pytest.mark.parametrize("of_diffs", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("of_blobs", ["sha256", "sha384", "sha512"])
def test_digests_of_every_registered_algorithm_are_checked(tmp_path, of_blobs, of_diffs):
    publisher = Publisher()
    config = publisher.config([str(Digest.of(plain, of_diffs)) for plain in (A, B)])
    publisher.image(*publisher.both(LAYER + "+gzip", gzipped, of_blobs), config=config)
    assert pull(publisher, tmp_path / "image") == TREE
    digest = next(digest for digest, data in publisher.registry.blobs.items() if data == gzipped(A))
    publisher.registry.lies[digest] = gzipped(B)
    with pytest.raises(EnclaveCcError, match="not those that the manifest names"):
        pull(publisher, tmp_path / "other")


def plain_image(publisher: Publisher, **options) -> dict:
    return publisher.image(*publisher.both(LAYER), **options)


def docker_image(publisher: Publisher) -> None:
    layers = publisher.both(DOCKER + "image.rootfs.diff.tar.gzip", gzipped)
    diff_ids = [str(Digest.of(plain)) for plain, _ in layers]
    config = publisher.config(diff_ids, media_type=DOCKER + "container.image.v1+json")
    entry = publisher.document(
        {"config": config, "layers": [entry for _, entry in layers]},
        media_type=DOCKER + "distribution.manifest.v2+json",
        platform=AMD64,
    )
    media_type = DOCKER + "distribution.manifest.list.v2+json"
    publisher.document({"manifests": [entry]}, tag="1", media_type=media_type)


def index(publisher: Publisher, *entries: dict, tag: str = "1", **extra) -> dict:
    return publisher.document(
        {"manifests": list(entries)}, tag=tag, media_type=OCI + "index.v1+json", **extra
    )


def with_attestations(publisher: Publisher) -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    statement = publisher.blob(b"{}", "application/vnd.in-toto+json")
    attestation = publisher.document(
        {"config": publisher.config([]), "layers": [statement]},
        platform=unknown,
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    index(publisher, attestation, {**plain_image(publisher, tag=""), "platform": AMD64})


def nested(publisher: Publisher) -> None:
    inner = index(publisher, {**plain_image(publisher, tag=""), "platform": AMD64}, tag="")
    index(publisher, {**inner, "platform": AMD64})


def with_other_members(publisher: Publisher) -> None:
    subject = publisher.document({"config": publisher.config([]), "layers": []})
    layers = publisher.both(LAYER)
    layers[0][1].update(
        data="bm90IHRoZSBsYXllcg==", urls=["https://other.example/"], unknown=[1, {"a": None}]
    )
    publisher.image(*layers, subject=subject, annotations={"a": "b"}, unknown={"x": 1}, artifactType="")


def with_odd_variants(publisher: Publisher) -> None:
    newer = {**AMD64, "variant": "v3"}
    older = {"os": "linux", "architecture": "x86_64", "variant": "v1"}
    other = publisher.image((A, publisher.blob(A, LAYER)), tag="")
    index(publisher, {**other, "platform": newer}, {**plain_image(publisher, tag=""), "platform": older})


IMAGES = {
    "a list of Docker's": docker_image,
    "an index with attestations": with_attestations,
    "an index in an index": nested,
    "an index without platforms": lambda publisher: index(publisher, plain_image(publisher, tag="")),
    "an index with odd variants": with_odd_variants,
    "members that are not ours": with_other_members,
    "an index that names its features": lambda publisher: index(
        publisher,
        {**plain_image(publisher, tag=""), "platform": {**AMD64, "os.features": ["x"], "features": ["y"]}},
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_every_kind_are_opened(tmp_path, kind):
    publisher = Publisher()
    IMAGES[kind](publisher)
    assert pull(publisher, tmp_path / "image") == TREE


def test_a_layer_that_occurs_twice_counts_each_time(tmp_path):
    publisher = Publisher()
    a, b = publisher.both(LAYER + "+gzip", gzipped)
    publisher.image(a, b, a)
    assert pull(publisher, tmp_path / "image") == {**TREE, "a": "one"}


def test_as_many_layers_as_the_limit_allows_are_one_tree(tmp_path):
    publisher = Publisher()
    tars = [tar(**{f"file{number}": str(number), "last": str(number)}) for number in range(LAYER_LIMIT)]
    publisher.image(*((plain, publisher.blob(plain, LAYER)) for plain in tars))
    found = pull(publisher, tmp_path / "image")
    assert found["last"] == str(LAYER_LIMIT - 1)
    assert len(found) == LAYER_LIMIT + 1


# The blob of 32 bytes that Docker has always written for a layer without files.
EMPTY = gzip.decompress(bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000"))


@pytest.mark.parametrize("empty", [EMPTY, b"", bytes(10240)], ids=["docker", "nothing", "gnu tar"])
def test_layers_without_files_are_layers(tmp_path, empty):
    publisher = Publisher()
    layers = publisher.both(LAYER + "+gzip", gzipped)
    publisher.image((empty, publisher.blob(gzipped(empty), LAYER + "+gzip")), *layers)
    assert pull(publisher, tmp_path / "image") == TREE


def test_an_image_without_layers_is_an_empty_root(tmp_path):
    publisher = Publisher()
    publisher.image()
    assert pull(publisher, tmp_path / "image") == {}


def refused_layer(media_type: str, data: bytes = A):
    return lambda publisher: publisher.image((A, publisher.blob(data, media_type)))


def refused_config(media_type: str, body: bytes = b"{}"):
    return lambda publisher: publisher.image(*publisher.both(LAYER), config=publisher.blob(body, media_type))


def too_deep(publisher: Publisher) -> None:
    entry = {**plain_image(publisher, tag=""), "platform": AMD64}
    for _ in range(3):
        entry = {**index(publisher, entry, tag=""), "platform": AMD64}
    index(publisher, entry)


def schema_1(publisher: Publisher) -> None:
    body = json.dumps({"schemaVersion": 1, "name": "app", "fsLayers": []}).encode()
    publisher.registry.put_manifest(REFERENCE, "1", body, "application/json")


REFUSED = {
    "an unknown layer": (refused_layer("text/plain"), "layer-media-type-unknown"),
    "a layer of another compression": (refused_layer(LAYER + "+xz"), "layer-media-type-unknown"),
    "a layer that is not compressed as it says": (refused_layer(LAYER + "+gzip"), "layer-corrupt"),
    "a cut-off frame": (refused_layer(LAYER + "+zstd", frames(A)[:-70]), "diff-id-mismatch"),
    "a cut-off member": (refused_layer(LAYER + "+gzip", gzipped(A)[:-9]), "layer-corrupt"),
    "the first member alone": (
        refused_layer(LAYER + "+gzip", gzipped(halves(A)[0])),
        "diff-id-mismatch",
    ),
    "the first frame alone": (refused_layer(LAYER + "+zstd", zstd(halves(A)[0])), "diff-id-mismatch"),
    "a chart": (refused_config("application/vnd.cncf.helm.config.v1+json"), "image-config-mismatch"),
    "an artifact": (refused_config("application/vnd.oci.empty.v1+json"), "image-config-mismatch"),
    "a configuration that is none": (refused_config(OCI + "config.v1+json"), "image-config-invalid"),
    "indexes without end": (too_deep, "image-limit-exceeded"),
    "Docker's old format": (schema_1, "manifest-invalid"),
    "attestations alone": (
        lambda publisher: index(
            publisher,
            {**plain_image(publisher, tag=""), "platform": {"os": "unknown", "architecture": "unknown"}},
        ),
        "image-platform-missing",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_image_is_refused(tmp_path, kind):
    publish, code = REFUSED[kind]
    publisher = Publisher()
    publish(publisher)
    with pytest.raises(EnclaveCcError) as refusal:
        pull(publisher, tmp_path / "image")
    assert refusal.value.code == code
    assert not (tmp_path / "image").exists()
