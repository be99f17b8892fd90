"""skopeo opens what we encrypt, and we open what it encrypts."""

from __future__ import annotations

import subprocess

import pytest
from tests.interop.programs import program

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout

TAR = LayerBuilder().file("hello", b"world" * 10_000).tar()


class Blobs:
    def __init__(self, layout):
        self.layout = layout

    def open(self, _reference, descriptor):
        with self.layout.open_blob(descriptor.digest) as stream:
            yield stream.read()


@pytest.fixture
def plain(tmp_path):
    layout = ImageLayout.create(tmp_path / "plain")
    inputs = [LayerInput(TAR, compression) for compression in (Compression.GZIP, Compression.ZSTD)]
    build_image(layout, inputs, ProcessDescription(entrypoint=("/hello",)))
    return layout


def skopeo(*arguments):
    command = [program("skopeo"), "--insecure-policy", "copy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def manifest_of(directory):
    layout = ImageLayout.open(directory)
    return layout, layout.read_manifest(layout.find())


def opened(directory, keys):
    layout, manifest = manifest_of(directory)
    config = ImageConfig.parse(layout.read_document(manifest.config.digest))
    for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        media_type = LayerMediaType.parse(descriptor.media_type)
        layer = Layer(Reference.parse("registry.example/a"), descriptor, media_type, diff_id)
        yield media_type, b"".join(open_layer(layer, source=Blobs(layout), keys=keys))


def test_skopeo_opens_what_we_encrypt(tmp_path, plain, owner):
    encrypt_image(plain, ImageLayout.create(tmp_path / "encrypted"), [owner.recipient])
    keys = [part for key in owner.decryption_keys for part in ("--decryption-key", key)]
    done = skopeo(*keys, f"oci:{tmp_path}/encrypted:latest", f"oci:{tmp_path}/opened:latest")
    assert done.returncode == 0, done.stderr
    _, manifest = manifest_of(tmp_path / "opened")
    _, wanted = manifest_of(tmp_path / "plain")
    assert [layer.digest for layer in manifest.layers] == [layer.digest for layer in wanted.layers]


def test_we_open_what_skopeo_encrypts(tmp_path, plain, owner):
    source, target = f"oci:{tmp_path}/plain:latest", f"oci:{tmp_path}/encrypted:latest"
    done = skopeo("--encryption-key", owner.encryption_key, source, target)
    assert done.returncode == 0, done.stderr
    found = list(opened(tmp_path / "encrypted", owner.ring()))
    assert all(media_type.encrypted for media_type, _ in found)
    assert [tar for _, tar in found] == [TAR, TAR]


def test_skopeo_opens_what_we_encrypt_for_several(tmp_path, plain, owner, other_owner):
    recipients = [other_owner.recipient, owner.recipient]
    encrypt_image(plain, ImageLayout.create(tmp_path / "encrypted"), recipients)
    keys = [part for key in owner.decryption_keys for part in ("--decryption-key", key)]
    done = skopeo(*keys, f"oci:{tmp_path}/encrypted:latest", f"oci:{tmp_path}/opened:latest")
    assert done.returncode == 0, done.stderr
    assert [tar for _, tar in opened(tmp_path / "encrypted", other_owner.ring())] == [TAR, TAR]


def test_nobody_else_opens_what_skopeo_encrypts(tmp_path, plain, owner, other_owner):
    source, target = f"oci:{tmp_path}/plain:latest", f"oci:{tmp_path}/encrypted:latest"
    assert skopeo("--encryption-key", owner.encryption_key, source, target).returncode == 0
    with pytest.raises(EnclaveCcError) as caught:
        list(opened(tmp_path / "encrypted", other_owner.ring()))
    assert caught.value.code == "layer-key-refused"


def test_an_image_of_skopeos_is_the_plain_image_of_the_same_vectors(vectors):
    _, encrypted = manifest_of(vectors / "oci" / "oci-jwe-skopeo1.9.3")
    _, plain = manifest_of(vectors / "oci" / "oci-plain")
    layouts = [ImageLayout.open(vectors / "oci" / name) for name in ("oci-jwe-skopeo1.9.3", "oci-plain")]
    configs = [
        ImageConfig.parse(layout.read_document(manifest.config.digest))
        for layout, manifest in zip(layouts, (encrypted, plain), strict=True)
    ]
    assert configs[0].diff_ids == configs[1].diff_ids
