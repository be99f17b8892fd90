from __future__ import annotations

import dataclasses
import random

import pytest

from enclave_cc.formats.oci.descriptor import Platform
from enclave_cc.formats.oci.manifest import Index
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.places.image_layout import ImageLayout

BIG = random.Random(7).randbytes(300_000) + bytes(700_000)
TARS = (
    LayerBuilder().directory("bin").file("bin/app", b"#!/bin/sh\n", mode=0o755).file("big", BIG).tar(),
    LayerBuilder().file("etc/passwd", b"app:x:5:6::/:/bin/sh\n").tar(),
)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64", "v8")


def image_in(layout, *, name="latest", compression=Compression.GZIP, architecture="amd64", tars=TARS):
    process = ProcessDescription(entrypoint=("/bin/app",), user="app", architecture=architecture)
    return build_image(layout, [LayerInput(tar, compression) for tar in tars], process, name=name)


@pytest.fixture
def plain(tmp_path):
    """A layout with one image of two layers."""
    layout = ImageLayout.create(tmp_path / "plain")
    image_in(layout)
    return layout


@pytest.fixture
def multi(tmp_path):
    """A layout whose only name is an index of two platforms that share a layer."""
    layout = ImageLayout.create(tmp_path / "multi")
    entries = []
    for platform, tars in ((AMD64, TARS), (ARM64, (TARS[0], LayerBuilder().file("arm", b"arm").tar()))):
        made = image_in(layout, architecture=platform.architecture, tars=tars)
        entries.append(dataclasses.replace(made, platform=platform, annotations={}))
    layout.add_manifest(Index(tuple(entries)), name="latest")
    return layout
