"""Archives of ``docker save``, from friends and from enemies."""

import contextlib
import gzip
import hashlib
import io
import json
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.places import archive as archive_module
from enclave_cc.tenant.places.docker_archive import DockerArchiveReader
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.opening import open_reader, open_writer

TAR = LayerBuilder().file("a", b"content").tar()


class Saved:
    """What ``docker save`` would have written, bent by tests."""

    def __init__(self):
        self.layers = [TAR, TAR]
        self.tags = ["app:v1"]
        self.files = {}
        self.links = {}
        self.listed = ["1/layer.tar", "2/layer.tar"]
        self.compress = lambda tar: tar
        self.manifest = None
        self.diff_ids = None

    def write(self, path):
        diff_ids = self.diff_ids or [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in self.layers]
        config = {"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/a"]}}
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        entry = {"Config": "c.json", "RepoTags": self.tags, "Layers": self.listed}
        files = {"c.json": json.dumps(config).encode()}
        for number, tar in enumerate(self.layers, 1):
            files[f"{number}/layer.tar"] = self.compress(tar)
        manifest = self.manifest if self.manifest is not None else [entry]
        files["manifest.json"] = json.dumps(manifest).encode()
        files |= self.files
        with tarfile.open(path, "w") as archive:
            for name, target in self.links.items():
                files.pop(name, None)
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
            for name, data in files.items():
                if data is not None:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return path


@pytest.fixture
def saved():
    return Saved()


def blobs(path, name=None):
    reader = DockerArchiveReader(path, name)
    manifest = Manifest.parse(reader.document(reader.resolve().digest))
    return manifest, [b"".join(reader.open_blob(layer)) for layer in manifest.layers]


def test_plain_layers_are_named_by_their_diff_ids(tmp_path, saved):
    manifest, layers = blobs(saved.write(tmp_path / "a.tar"))
    assert layers == [TAR, TAR]
    assert {layer.media_type for layer in manifest.layers} == {"application/vnd.oci.image.layer.v1.tar"}
    assert manifest.layers[0].digest.hex == hashlib.sha256(TAR).hexdigest()


def test_compressed_layers_stay_compressed(tmp_path, saved):
    saved.compress = gzip.compress
    manifest, layers = blobs(saved.write(tmp_path / "a.tar"))
    assert [gzip.decompress(layer) for layer in layers] == [TAR, TAR]
    assert manifest.layers[0].media_type.endswith("tar+gzip")


def test_a_duplicate_layer_may_be_a_link(tmp_path, saved):
    saved.links = {"2/layer.tar": "../1/layer.tar"}
    assert blobs(saved.write(tmp_path / "a.tar"))[1] == [TAR, TAR]


@pytest.mark.parametrize("name", [None, "app:v1", "docker.io/library/app:v1"])
def test_an_image_is_found_by_its_tag(tmp_path, saved, name):
    assert blobs(saved.write(tmp_path / "a.tar"), name)[1] == [TAR, TAR]


def test_an_image_without_tags_is_found_without_a_name(tmp_path, saved):
    saved.tags = None
    assert blobs(saved.write(tmp_path / "a.tar"))[1] == [TAR, TAR]


def test_an_archive_that_was_compressed_or_is_a_pipe_is_spooled(tmp_path, saved):
    path = saved.write(tmp_path / "a.tar")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert blobs(tmp_path / "a.tar.gz")[1] == [TAR, TAR]


def refusal(path, name=None):
    with pytest.raises(EnclaveCcError) as caught:
        blobs(path, name)
    return caught.value


def test_a_plain_layer_that_is_another_is_refused(tmp_path, saved):
    saved.files["2/layer.tar"] = bytes(len(TAR))
    assert refusal(saved.write(tmp_path / "a.tar")).code == "digest-mismatch"


def test_a_compressed_layer_that_is_another_is_refused(tmp_path, saved):
    saved.files["1/layer.tar"] = gzip.compress(b"x")
    error = refusal(saved.write(tmp_path / "a.tar"))
    assert isinstance(error, RefusedError)
    assert error.code == "diff-id-mismatch"


def test_a_layer_that_grows_without_end_is_refused(tmp_path, saved):
    saved.files["1/layer.tar"] = gzip.compress(bytes(80 << 20))
    assert "grows beyond" in refusal(saved.write(tmp_path / "a.tar")).detail


@pytest.mark.parametrize(
    ("bend", "detail"),
    [
        (lambda saved: saved.links.update({"2/layer.tar": "2/layer.tar"}), "missing"),
        (lambda saved: saved.links.update({"2/layer.tar": "layer.tar"}), "too often"),
        (lambda saved: saved.links.update({"2/layer.tar": "../../etc/passwd"}), "missing"),
        (lambda saved: saved.listed.pop(), "1 layers, and 2 diff ids"),
        (lambda saved: saved.listed.append("3/layer.tar"), "3 layers"),
        (lambda saved: saved.files.update({"c.json": None}), "c.json: is missing"),
        (lambda saved: saved.files.update({"manifest.json": None}), "manifest.json: is missing"),
        (lambda saved: saved.files.update({"manifest.json": b"{}"}), "not a list"),
        (lambda saved: saved.files.update({"manifest.json": b"[]"}), "not a list"),
        (lambda saved: saved.files.update({"manifest.json": b"[1]"}), "not an object"),
        (lambda saved: saved.files.update({"./c.json": b"{}"}), "occurs twice"),
        (lambda saved: saved.files.update({"1/layer.tar": b"\x1f\x8bgarbage"}), "1/layer.tar"),
        (lambda saved: saved.files.update({"manifest.json": bytes(5 << 20)}), "larger than"),
    ],
)
def test_an_archive_that_makes_no_sense_is_refused(tmp_path, saved, bend, detail):
    bend(saved)
    error = refusal(saved.write(tmp_path / "a.tar"))
    assert error.code == "image-archive-invalid"
    assert detail in error.detail


def test_a_sparse_member_is_refused(tmp_path, saved):
    """What such a member holds is not what lies behind its header."""
    path = saved.write(tmp_path / "a.tar")
    records = b"GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=sparse\nGNU.sparse.realsize=1024\n"
    records = b"".join(b"%d %s\n" % (len(line) + 4, line) for line in records.splitlines())
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as archive:
        extended = tarfile.TarInfo("PaxHeaders/sparse")
        extended.type, extended.size = tarfile.XHDTYPE, len(records)
        archive.addfile(extended, io.BytesIO(records))
        info = tarfile.TarInfo("sparse")
        data = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    assert "sparse: is sparse" in refusal(path).detail


def test_too_many_members_are_refused(tmp_path, saved, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 3)
    assert "too many" in refusal(saved.write(tmp_path / "a.tar")).detail


def test_names_of_members_that_are_long_together_are_refused(tmp_path, saved, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_TEXT_BYTES", 150)
    path = tmp_path / "names.tar"
    saved.files["x" * 150] = b""
    assert "names are too long" in refusal(saved.write(path)).detail


def test_attributes_of_members_are_not_kept(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"SCHILY.xattr.user.a": "x" * 60_000}
        tar.addfile(info)
    with contextlib.closing(archive_module.Archive(tmp_path / "a.tar")) as archive:
        assert archive.has("a")
        assert not any(member.xattrs for member in archive._members.values())


def test_an_archive_that_grows_without_end_is_refused(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=9) as bomb:
        for _ in range(80):
            bomb.write(bytes(1 << 20))
    with pytest.raises(InvalidInputError) as caught:
        DockerArchiveReader(path)
    assert "grows beyond" in caught.value.detail


def test_of_several_images_one_must_be_named(tmp_path, saved):
    entries = [{"Config": "c.json", "RepoTags": [tag], "Layers": saved.listed} for tag in ("a:1", "b:1")]
    saved.manifest = entries
    path = saved.write(tmp_path / "a.tar")
    assert "name one" in refusal(path).detail
    assert "no image named" in refusal(path, "c:1").detail
    assert blobs(path, "b:1")[1] == [TAR, TAR]


def test_a_file_that_is_missing_is_said_so(tmp_path):
    assert refusal(tmp_path / "none.tar").code == "file-unusable"


@given(data=st.binary(max_size=2000))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_an_archive_or_refused(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    assert refusal(tmp_path / "a.tar").code == "image-archive-invalid"


@given(at=st.integers(0, 10_239), value=st.integers(0, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_wrong_byte_is_harmless_or_refused(tmp_path, at, value):
    path = Saved().write(tmp_path / "a.tar")
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(EnclaveCcError):
        assert blobs(path)[1] == [TAR, TAR]


@pytest.mark.parametrize("compression", Compression)
def test_what_is_written_is_plain_and_read_back(tmp_path, compression):
    from tests.tenant.conftest import TARS, image_in  # noqa: PLC0415  # a conftest of this folder's parent

    layout = ImageLayout.create(tmp_path / "plain")
    image_in(layout, compression=compression, tars=(TARS[0], TARS[1], TARS[0]))
    target = f"docker-archive:{tmp_path / 'out.tar'}:app:v1"
    with open_reader(f"oci:{layout.directory}") as reader, open_writer(target) as writer:
        copy_image(reader, writer)
    manifest, layers = blobs(tmp_path / "out.tar", "app:v1")
    assert layers == [TARS[0], TARS[1], TARS[0]]
    assert manifest.config.digest == layout.read_manifest(layout.find()).config.digest
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert len(archive.getnames()) == 4
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out.tar", tmp_path / "plain"]


def test_it_holds_one_plain_image(tmp_path, multi):
    target = f"docker-archive:{tmp_path / 'out.tar'}"
    with (
        pytest.raises(InvalidInputError) as caught,
        open_reader(f"oci:{multi.directory}") as reader,
        open_writer(target) as writer,
    ):
        copy_image(reader, writer)
    assert caught.value.code == "image-place-unfit"
    assert not (tmp_path / "out.tar").exists()
