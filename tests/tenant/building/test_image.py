import dataclasses
import json

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.label import ENCRYPTION_LABEL
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.inspect import inspect
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutReader
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image

NAME = Reference.parse("r.example/a")
KID = "kbs:///default/key/1"
TAR = LayerBuilder().file("a", b"content").tar()


@pytest.fixture
def recipients():
    return [BrokerKey(Secret.random(32), KID)]


@pytest.fixture
def layout(tmp_path):
    layout = ImageLayout.create(tmp_path / "plain")
    build_image(layout, [LayerInput(TAR), LayerInput(TAR, Compression.ZSTD)], ProcessDescription(("/a",)))
    return layout


def _manifest(layout):
    return layout.read_manifest(layout.find())


def _config(layout):
    return ImageConfig.parse(layout.read_document(_manifest(layout).config.digest))


def test_an_image_is_the_same_whoever_builds_it(tmp_path, layout):
    (tmp_path / "tar").write_bytes(TAR)
    inputs = [
        LayerInput(tmp_path / "tar"),
        LayerInput(LayerBuilder().file("a", b"content"), Compression.ZSTD),
    ]
    again = ImageLayout.create(tmp_path / "again")
    assert build_image(again, inputs, ProcessDescription(("/a",))).digest == layout.find().digest


def test_the_configuration_names_the_plain_tars(layout):
    assert _config(layout).diff_ids == (Digest.of(TAR), Digest.of(TAR))


def test_a_layout_reads_back_what_was_written(layout):
    assert ImageLayout.open(layout.directory).find("latest").digest == layout.find().digest
    with pytest.raises(InvalidInputError):
        layout.find("another")


def test_a_layout_that_was_damaged_is_noticed(layout):
    digest = layout.find().digest
    (layout.directory / "blobs" / "sha256" / digest.hex).write_bytes(b"{}")
    with pytest.raises(RefusedError):
        layout.read_manifest(layout.find())


def test_a_directory_without_a_layout_is_refused(tmp_path, layout):
    with pytest.raises(InvalidInputError):
        ImageLayout.open(tmp_path)
    with pytest.raises(InvalidInputError):
        ImageLayout.create(layout.directory)
    (layout.directory / "index.json").unlink()
    with pytest.raises(InvalidInputError):
        ImageLayout.open(layout.directory)


def test_a_blob_that_fails_midway_leaves_nothing(layout):
    before = sorted((layout.directory / "blobs" / "sha256").iterdir())

    def failing():
        yield b"x"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        layout.add_blob(failing())
    assert sorted((layout.directory / "blobs" / "sha256").iterdir()) == before


def test_an_encrypted_image_keeps_its_configuration_and_nothing_readable(tmp_path, layout, recipients):
    target = ImageLayout.create(tmp_path / "encrypted")
    encrypt_image(layout, target, recipients)
    assert _config(target) == _config(layout)
    for before, after in zip(_manifest(layout).layers, _manifest(target).layers, strict=True):
        assert after.media_type == f"{before.media_type}+encrypted"
        assert after.digest != before.digest
        assert not (target.directory / "blobs" / "sha256" / before.digest.hex).exists()


def test_hosts_can_tell_an_image_and_its_encryptions_apart(tmp_path, layout, recipients):
    configs = {_manifest(layout).config.digest}
    for number in range(2):
        target = ImageLayout.create(tmp_path / f"encrypted-{number}")
        encrypt_image(layout, target, recipients)
        configs.add(_manifest(target).config.digest)
        members = json.loads(target.read_document(_manifest(target).config.digest))
        assert members["config"].pop("Labels").keys() == {ENCRYPTION_LABEL}
        assert members == json.loads(layout.read_document(_manifest(layout).config.digest))
    assert len(configs) == 3


def test_an_encrypted_image_is_not_encrypted_again(tmp_path, layout, recipients):
    target = ImageLayout.create(tmp_path / "encrypted")
    encrypt_image(layout, target, recipients)
    with pytest.raises(InvalidInputError) as caught:
        encrypt_image(target, ImageLayout.create(tmp_path / "twice"), recipients)
    assert caught.value.code == "image-already-encrypted"


def test_all_images_of_an_index_are_encrypted(tmp_path, layout, recipients):
    amd64 = Platform("linux", "amd64")
    child = dataclasses.replace(layout.find(), platform=amd64, annotations={"a": "b"})
    layout.add_manifest(Index((child,)), name="multi")
    target = ImageLayout.create(tmp_path / "encrypted")
    index = target.read_manifest(encrypt_image(layout, target, recipients, name="multi"))
    (entry,) = index.manifests
    assert (entry.platform, entry.annotations) == (amd64, {"a": "b"})
    assert inspect(LayoutReader(target, "multi"), NAME).encrypted


def test_a_layer_of_an_unknown_kind_is_not_encrypted(tmp_path, layout, recipients):
    odd = Descriptor("application/x", Digest.of(b""), 0)
    layout.add_manifest(Manifest(_manifest(layout).config, (odd,)), name="odd")
    with pytest.raises(InvalidInputError) as caught:
        encrypt_image(layout, ImageLayout.create(tmp_path / "encrypted"), recipients, name="odd")
    assert caught.value.code == "layer-media-type-unknown"


def test_inspecting_says_who_holds_the_keys_and_how_many_signed(tmp_path, layout, recipients):
    plain = inspect(LayoutReader(layout), NAME)
    assert (plain.encrypted, plain.signed) == (False, False)
    target = ImageLayout.create(tmp_path / "encrypted")
    manifest = encrypt_image(layout, target, recipients)
    for _ in range(2):
        sign_image(target, manifest, repository="r.example/a", private_key_pem=generate_signing_key()[0])
    report = inspect(LayoutReader(target), NAME)
    (image,) = report.images
    assert report.descriptor.digest == image.digest == manifest.digest
    assert (report.encrypted, len(image.signatures)) == (True, 2)
    assert [layer.key_ids for layer in image.layers] == [(KID,), (KID,)]


def test_an_image_is_signed_for_a_name_that_parses(layout):
    with pytest.raises(InvalidInputError):
        sign_image(layout, layout.find(), repository="NO NAME", private_key_pem=generate_signing_key()[0])


def test_an_image_encrypted_by_others_can_be_inspected(vectors):
    report = inspect(LayoutReader(ImageLayout.open(vectors / "oci" / "oci-encrypted")), NAME)
    (image,) = report.images
    assert report.encrypted
    assert len(image.signatures) == 1
    assert {layer.key_ids for layer in image.layers} == {(KID,)}
