"""skopeo reads what is written here, and the other way round."""

import json
import shutil
import subprocess

import pytest

from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.opening import open_reader, open_writer

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


def skopeo(*arguments):
    command = ["skopeo", "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy(source, target):
    with open_reader(source) as reader, open_writer(target) as writer:
        return copy_image(reader, writer).descriptor


def config(layout, name="latest"):
    return ImageConfig.parse(layout.read_document(layout.read_manifest(layout.find(name)).config.digest))


@pytest.mark.parametrize("kind", ["oci:{}/x:v1", "oci-archive:{}/x.tar:v1", "docker-archive:{}/x.tar:app:v1"])
def test_skopeo_reads_what_is_written(tmp_path, plain, kind):
    target = kind.format(tmp_path)
    copy(f"oci:{plain.directory}", target)
    told = json.loads(skopeo("inspect", target))
    assert len(told["Layers"]) == 2
    skopeo("copy", target, f"oci:{tmp_path / 'by-skopeo'}:v1")
    assert config(ImageLayout.open(tmp_path / "by-skopeo"), "v1") == config(plain)


@pytest.mark.parametrize("kind", ["oci:{}/x:v1", "oci-archive:{}/x.tar:v1", "docker-archive:{}/x.tar:app:v1"])
def test_what_skopeo_writes_is_read(tmp_path, plain, kind):
    source = kind.format(tmp_path)
    skopeo("copy", f"oci:{plain.directory}", source)
    copy(source, f"oci:{tmp_path / 'back'}")
    assert config(ImageLayout.open(tmp_path / "back")) == config(plain)
