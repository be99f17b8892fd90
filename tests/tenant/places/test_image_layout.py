"""A layout may be somebody else's: what lies in it leads nowhere and holds nobody up."""

import os

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.media_types import OCI_MANIFEST
from enclave_cc.tenant.places.image_layout import MAX_DOCUMENT_BYTES, ImageLayout

DIGEST = Digest.of(b"content")


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "layout").mkdir()
    return ImageLayout.create(tmp_path / "layout")


def test_a_link_where_the_index_is_written_is_not_followed(tmp_path, layout):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in (".index.json.partial", "index.json"):
        (layout.directory / name).unlink(missing_ok=True)
        (layout.directory / name).symlink_to(precious)
    (layout.directory / "index.json").unlink()
    (layout.directory / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    layout.name(Descriptor(OCI_MANIFEST, DIGEST, 7), "v1")
    assert precious.read_text() == "mine"
    assert layout.find("v1").digest == DIGEST


def test_a_pipe_instead_of_a_file_holds_nobody_up(layout):
    os.mkfifo(layout.directory / "blobs" / "sha256" / DIGEST.hex)
    with pytest.raises(InvalidInputError) as caught:
        layout.read_document(DIGEST)
    assert caught.value.code == "image-layout-invalid"
    (layout.directory / "index.json").unlink()
    os.mkfifo(layout.directory / "index.json")
    with pytest.raises(InvalidInputError):
        layout.index()


def test_an_endless_index_is_not_read_to_its_end(layout):
    os.truncate(layout.directory / "index.json", 1 << 40)
    with pytest.raises(InvalidInputError):
        layout.index()
    assert MAX_DOCUMENT_BYTES < 1 << 24


def test_nothing_is_left_beside_the_index(layout):
    layout.name(Descriptor(OCI_MANIFEST, DIGEST, 7), "v1")
    assert sorted(path.name for path in layout.directory.iterdir()) == ["blobs", "index.json", "oci-layout"]
