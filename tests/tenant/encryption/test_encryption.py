"""An image through encryption and back, and what must not happen on the way."""

import base64
import dataclasses
import json

import pytest
from tests.simulators.memory_registry import MemoryResources
from tests.tenant.conftest import AMD64, ARM64, TARS, image_in

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.tenant.encryption.decryption import decrypt
from enclave_cc.tenant.encryption.images import Encryption, encrypt
from enclave_cc.tenant.encryption.label import add_label, remove_label
from enclave_cc.tenant.encryption.layer_keys import deterministic
from enclave_cc.tenant.encryption.rewrap import Rewrapping, rewrap
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutReader
from enclave_cc.tenant.places.opening import open_reader, open_writer

KID = "kbs:///default/key/1"
OTHER = "kbs:///default/key/2"


class World:
    def __init__(self, directory):
        self.directory = directory
        self.key = BrokerKey(Secret(bytes(range(32))), KID)
        self.other = BrokerKey(Secret(bytes(32)), OTHER)
        self.numbers = iter(range(100))

    def ring(self, *keys):
        return KeyRing(MemoryResources({key.kid: bytes(key.kek.reveal()) for key in keys or (self.key,)}))

    def run(self, function, layout, *arguments, **options):
        path = self.directory / f"out-{next(self.numbers)}"
        with open_reader(f"oci:{layout.directory}") as reader, open_writer(f"oci:{path}") as writer:
            result = function(reader, writer, *arguments, **options)
        return ImageLayout.open(path), result

    def encrypt(self, layout, **options):
        return self.run(encrypt, layout, Encryption((self.key,), **options))

    def decrypt(self, layout, *keys):
        return self.run(decrypt, layout, self.ring(*keys))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def manifest_of(layout, platform=AMD64):
    document = layout.read_manifest(layout.find())
    if isinstance(document, Index):
        document = layout.read_manifest(document.select(platform))
    return document


def refusal(function, *arguments, **options):
    with pytest.raises(EnclaveCcError) as caught:
        function(*arguments, **options)
    return caught.value


def rewrite(layout, change):
    """Change the one manifest of a layout."""
    document = json.loads(layout.read_document(layout.find().digest))
    change(document)
    digest, size = layout.add_blob([json.dumps(document).encode()])
    layout.name(Descriptor(document["mediaType"], digest, size), "latest")


@pytest.mark.parametrize("compression", Compression)
def test_decrypting_gives_the_very_image_back(world, tmp_path, compression):
    plain = ImageLayout.create(tmp_path / "p")
    image_in(plain, compression=compression)
    encrypted, done = world.encrypt(plain)
    assert (done.images, done.layers) == (1, 2)
    back, _ = world.decrypt(encrypted)
    assert back.find().digest == plain.find().digest
    assert [str(layer.digest) for layer in manifest_of(back).layers] == [
        str(layer.digest) for layer in manifest_of(plain).layers
    ]


def test_an_index_comes_back_too_with_its_layers_shared(world, multi):
    encrypted, done = world.encrypt(multi)
    assert (done.images, done.layers) == (2, 3)
    shared = {manifest_of(encrypted, platform).layers[0].digest for platform in (AMD64, ARM64)}
    assert len(shared) == 1
    back, _ = world.decrypt(encrypted)
    assert back.find().digest == multi.find().digest


def test_one_platform_can_be_encrypted_alone(world, multi):
    encrypted, done = world.encrypt(multi, platforms=(ARM64,))
    assert done.images == 1
    assert isinstance(encrypted.read_manifest(encrypted.find()), Manifest)


def test_a_layer_that_occurs_twice_is_encrypted_once(world, tmp_path):
    plain = ImageLayout.create(tmp_path / "p")
    image_in(plain, tars=(TARS[0], TARS[1], TARS[0]))
    encrypted, done = world.encrypt(plain)
    layers = manifest_of(encrypted).layers
    assert done.layers == 2
    assert layers[0].digest == layers[2].digest != layers[1].digest


def as_docker(document):
    document["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in document["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def test_docker_types_become_oci_types_and_come_back(world, plain):
    rewrite(plain, as_docker)
    encrypted, _ = world.encrypt(plain)
    manifest = manifest_of(encrypted)
    assert encrypted.find().media_type == manifest.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert manifest.config.media_type == "application/vnd.oci.image.config.v1+json"
    assert {layer.media_type for layer in manifest.layers} == {
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
    }
    back, _ = world.decrypt(encrypted)
    assert back.find().digest == plain.find().digest


def test_a_layer_in_another_form_does_not_stay_readable(world, plain):
    def embed(document):
        for entry in (document["config"], *document["layers"]):
            blob = plain.directory / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
            entry["data"] = base64.b64encode(blob.read_bytes()).decode()
            entry["urls"] = ["https://layers.example/plain"]

    rewrite(plain, embed)
    encrypted, _ = world.encrypt(plain)
    document = json.loads(encrypted.read_document(encrypted.find().digest))
    for entry in (document["config"], *document["layers"]):
        assert entry.keys() == {"mediaType", "digest", "size", "annotations"}


def test_descriptions_of_a_plain_image_are_left_out(world, multi):
    index = multi.read_manifest(multi.find())
    provenance = dataclasses.replace(
        index.manifests[0], annotations={"vnd.docker.reference.type": "attestation-manifest"}
    )
    multi.add_manifest(Index((*index.manifests, provenance)), name="latest")
    encrypted, done = world.encrypt(multi)
    assert len(done.left_out) == 1
    assert len(encrypted.read_manifest(encrypted.find()).manifests) == 2


@pytest.mark.parametrize(
    "recipients",
    [(), (BrokerKey(Secret(b"short"), KID),), (BrokerKey(Secret(bytes(32)), "no name"),)],
    ids=["none", "short key", "no name"],
)
def test_a_recipient_that_cannot_be_used_is_known_before_anything_is_written(world, plain, recipients):
    error = refusal(world.run, encrypt, plain, Encryption(recipients))
    assert isinstance(error, InvalidInputError)
    assert not (world.directory / "out-0").exists()


def test_an_encrypted_image_is_refused_by_name_of_the_right_command(world, plain):
    encrypted, _ = world.encrypt(plain)
    error = refusal(world.encrypt, encrypted)
    assert error.code == "image-already-encrypted"
    assert "rewrap" in error.remedy


def test_a_layer_that_was_damaged_is_not_encrypted(world, plain):
    layer = manifest_of(plain).layers[0]
    (plain.directory / "blobs" / "sha256" / layer.digest.hex).write_bytes(bytes(layer.size))
    assert refusal(world.encrypt, plain).code == "digest-mismatch"
    assert not (world.directory / "out-0").exists()


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("keys", ["fresh", "derived"])
def test_plain_layers_are_compressed_on_demand(world, tmp_path, compression, keys):
    plain = ImageLayout.create(tmp_path / "p")
    image_in(plain, compression=Compression.NONE)
    request = steady(world) if keys == "derived" else Encryption((world.key,))
    encrypted, done = world.run(encrypt, plain, dataclasses.replace(request, compress=compression))
    assert done.layer_bytes < sum(layer.size for layer in manifest_of(plain).layers)
    assert {layer.media_type for layer in manifest_of(encrypted).layers} == {
        f"application/vnd.oci.image.layer.v1.tar+{compression}+encrypted"
    }
    back, _ = world.decrypt(encrypted)
    assert manifest_of(back).config.digest == manifest_of(plain).config.digest
    assert manifest_of(back).layers[0].media_type.endswith(f"+{compression}")


def test_compressed_layers_stay_as_they_are(world, plain):
    encrypted, _ = world.encrypt(plain, compress=Compression.ZSTD)
    assert world.decrypt(encrypted)[0].find().digest == plain.find().digest


def steady(world):
    keys, recipients = deterministic((world.key,))
    return Encryption(recipients, keys=keys)


def test_a_deterministic_encryption_is_the_same_everywhere(world, plain):
    digests = {world.run(encrypt, plain, steady(world))[1].descriptor.digest for _ in range(2)}
    assert len(digests) == 1
    assert world.encrypt(plain)[1].descriptor.digest not in digests


def test_a_deterministic_encryption_depends_on_key_and_layer(world, plain):
    first = world.run(encrypt, plain, steady(world))[0]
    world.key = BrokerKey(Secret(bytes(reversed(range(32)))), KID)
    second = world.run(encrypt, plain, steady(world))[0]
    digests = {layer.digest for layout in (first, second) for layer in manifest_of(layout).layers}
    assert len(digests) == 4
    assert world.decrypt(second)[0].find().digest == plain.find().digest


def test_a_derived_key_never_meets_a_second_stream(world, plain):
    """A source that lies once would otherwise get two ciphertexts under one key stream."""
    layer = manifest_of(plain).layers[0]
    path = plain.directory / "blobs" / "sha256" / layer.digest.hex
    path.write_bytes(bytes(layer.size))
    written = []

    class Recorder:
        name = "latest"

        def add_blob(self, chunks, size=None, *, digest=None):
            written.extend(chunks)
            return Digest.of(b""), 0

    error = refusal(encrypt, LayoutReader(plain), Recorder(), steady(world))
    assert error.code == "digest-mismatch"
    assert sum(map(len, written)) <= manifest_of(plain).layers[1].size


def test_deterministic_encryption_needs_a_secret():
    assert refusal(deterministic, ()).code == "recipient-missing"


def test_another_key_does_not_open_the_image(world, plain):
    encrypted, _ = world.encrypt(plain)
    error = refusal(world.decrypt, encrypted, BrokerKey(Secret(bytes(32)), KID))
    assert isinstance(error, RefusedError)
    assert error.code == "layer-key-refused"


def test_a_changed_layer_is_not_decrypted(world, plain):
    encrypted, _ = world.encrypt(plain)

    def change(document):
        layer = document["layers"][0]
        path = encrypted.directory / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        layer["digest"] = str(encrypted.add_blob([bytes(data)])[0])

    rewrite(encrypted, change)
    assert refusal(world.decrypt, encrypted).code == "layer-hmac-mismatch"
    assert not (world.directory / "out-1").exists()


def test_a_plain_image_cannot_be_decrypted_or_rewrapped(world, plain):
    assert refusal(world.decrypt, plain).code == "image-not-encrypted"
    error = refusal(world.run, rewrap, plain, Rewrapping(add=(world.other,)), world.ring())
    assert error.code == "image-not-encrypted"


def test_a_recipient_is_added_without_touching_layers(world, multi):
    encrypted, _ = world.encrypt(multi)
    rewrapped, done = world.run(rewrap, encrypted, Rewrapping(add=(world.other,)), world.ring())
    assert done.layers == 3
    for platform in (AMD64, ARM64):
        before, after = manifest_of(encrypted, platform), manifest_of(rewrapped, platform)
        assert [layer.digest for layer in before.layers] == [layer.digest for layer in after.layers]
        assert before.config == after.config
    for key in (world.key, world.other):
        assert world.decrypt(rewrapped, key)[0].find().digest == multi.find().digest


def test_a_recipient_is_removed_without_any_key(world, plain):
    encrypted, _ = world.run(encrypt, plain, Encryption((world.key, world.other)))
    rewrapped, _ = world.run(rewrap, encrypted, Rewrapping(remove=(KID,)), KeyRing())
    assert isinstance(refusal(world.decrypt, rewrapped, world.key), UnavailableError)
    assert world.decrypt(rewrapped, world.other)[0].find().digest == plain.find().digest


@pytest.mark.parametrize(
    ("request_", "code"),
    [(Rewrapping(remove=(KID,)), "recipient-missing"), (Rewrapping(remove=(OTHER,)), "recipient-unknown")],
)
def test_the_last_recipient_and_a_stranger_cannot_be_removed(world, plain, request_, code):
    encrypted, _ = world.encrypt(plain)
    assert refusal(world.run, rewrap, encrypted, request_, KeyRing()).code == code


@pytest.mark.parametrize(
    "config",
    [
        {"config": {"Labels": {"a": "b"}}, "os": "linux"},
        {"config": {"Labels": {}}, "os": "linux"},
        {"config": {"Labels": None, "User": "x"}, "os": "linux"},
        {"config": {"Cmd": ["a && b"]}, "os": "linux"},
        {"config": {}, "os": "linux"},
        {"config": None, "os": "linux"},
        {"os": "linux"},
    ],
)
def test_the_label_is_taken_away_without_a_trace(config):
    for text in (json.dumps(config), json.dumps(config, indent=3).replace("&", "\\u0026")):
        document = text.encode()
        labelled = add_label(document, [Digest.of(b"layer")])
        assert labelled != document
        assert remove_label(labelled, Digest.of(document)) == document


def test_a_configuration_without_the_label_stays_as_it_is():
    assert remove_label(b'{ "os" : 1}', None) == b'{ "os" : 1}'


@pytest.mark.parametrize("document", [b"[]", b"{", b'{"config":[]}', b'{"config":{"Labels":1}}'])
def test_a_configuration_that_makes_no_sense_is_refused(document):
    assert refusal(add_label, document, []).code == "image-config-invalid"
