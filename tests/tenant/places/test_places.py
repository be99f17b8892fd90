"""Every kind of place holds what was written to it, and nothing of what failed."""

import json
import tarfile

import pytest
from tests.simulators.registry import running_registry

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import OCI_MANIFEST
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutReader
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image
from enclave_cc.transport.registry.client import RegistryClient


class World:
    """A directory, a registry, and places in both."""

    def __init__(self, directory, simulator):
        self.directory = directory
        self.simulator = simulator
        self.client = RegistryClient(insecure_http=[simulator.host])

    def text(self, kind, name="target"):
        return {
            "oci": f"oci:{self.directory / name}:v1",
            "oci-archive": f"oci-archive:{self.directory / name}.oci.tar:v1",
            "docker-archive": f"docker-archive:{self.directory / name}.tar:app:v1",
            "registry": f"{self.simulator.host}/team/{name}:v1",
        }[kind]

    def reader(self, text):
        return open_reader(text, lambda: self.client)

    def writer(self, text):
        return open_writer(text, lambda: self.client)

    def copy(self, source, target, **options):
        with self.reader(source) as reader, self.writer(target) as writer:
            return copy_image(reader, writer, **options)


@pytest.fixture
def world(tmp_path):
    with running_registry() as simulator:
        world = World(tmp_path, simulator)
        yield world
        world.client.close()


WHOLE = ("oci", "oci-archive", "registry")


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("image", ["plain", "multi"])
def test_an_image_survives_the_way_there_and_back(request, world, kind, image):
    layout = request.getfixturevalue(image)
    source = f"oci:{layout.directory}"
    world.copy(source, world.text(kind))
    copied = world.copy(world.text(kind), f"oci:{world.directory / 'back'}").descriptor
    assert copied.digest == layout.find().digest
    back = ImageLayout.open(world.directory / "back")
    for blob in (layout.directory / "blobs" / "sha256").iterdir():
        assert image == "multi" or (back.directory / "blobs" / "sha256" / blob.name).exists()


@pytest.mark.parametrize("kind", WHOLE)
def test_signatures_and_referrers_travel_along(world, plain, kind):
    subject = plain.find()
    sign_image(plain, subject, repository="r.example/a", private_key_pem=generate_signing_key()[0])
    with world.writer(f"oci:{plain.directory}") as writer:
        bundle = _bundle(writer, subject)
    copied = world.copy(f"oci:{plain.directory}", world.text(kind), signatures=True)
    assert copied.signatures == 2
    with world.reader(world.text(kind)) as reader:
        assert reader.signature_manifest(subject.digest) is not None
        assert [entry.digest for entry in reader.referrers(subject.digest).manifests] == [bundle.digest]
        assert reader.document(bundle.digest)
        assert reader.signature_manifest(bundle.digest) is None
        assert reader.referrers(bundle.digest).manifests == ()


def _bundle(writer, subject):
    empty = writer.add_blob([b"{}"], 2)
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(empty[0]), "size": 2}
    members = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    members["subject"] = {
        "mediaType": OCI_MANIFEST,
        "digest": str(subject.digest),
        "size": subject.size,
    }
    descriptor = writer.add_manifest(json.dumps(members).encode(), OCI_MANIFEST)
    writer.add_referrer(subject.digest, descriptor)
    return descriptor


def test_a_registry_without_the_referrers_api_gets_the_tag(world, plain):
    world.simulator.has_referrers = False
    subject = plain.find()
    target = world.text("registry")
    with world.writer(target) as writer:
        bundles = [_bundle(writer, subject)]
    assert ("team/target", f"sha256-{subject.digest.hex}") in world.simulator.manifests
    with world.reader(target) as reader:
        assert [entry.digest for entry in reader.referrers(subject.digest).manifests] == [bundles[0].digest]


@pytest.mark.parametrize("kind", [*WHOLE, "docker-archive"])
def test_nothing_has_a_name_when_the_work_fails(world, plain, kind):
    before = sorted(world.directory.iterdir())
    with pytest.raises(RuntimeError):
        _write_and_fail(world.writer(world.text(kind)))
    assert sorted(world.directory.iterdir()) == before
    assert ("team/target", "v1") not in world.simulator.manifests


def _write_and_fail(opened):
    with opened as writer:
        writer.add_blob([b"blob"], 4)
        writer.add_manifest(b"{}", OCI_MANIFEST, name="v1")
        raise RuntimeError


def test_a_layout_that_exists_keeps_its_names(world, plain):
    world.copy(f"oci:{plain.directory}", f"oci:{plain.directory}:again")
    assert plain.find("again").digest == plain.find("latest").digest


def test_a_directory_with_something_else_is_left_alone(world):
    (world.directory / "full").mkdir()
    (world.directory / "full" / "file").touch()
    with pytest.raises(InvalidInputError) as caught, world.writer(f"oci:{world.directory / 'full'}"):
        pass
    assert caught.value.code == "file-unusable"


@pytest.mark.parametrize("kind", WHOLE)
def test_a_blob_that_is_another_is_refused(world, kind):
    with pytest.raises(RefusedError) as caught, world.writer(world.text(kind)) as writer:
        writer.add_blob([b"other"], 5, digest=Digest.of(b"blob"))
    assert caught.value.code == "digest-mismatch"


@pytest.mark.parametrize(
    "served", [b"longer than", b"short", b"other"], ids=["too long", "too short", "another"]
)
def test_a_lying_registry_is_caught(world, served):
    blob = Descriptor("application/x", Digest.of(b"bytes"), len(b"bytes") if served != b"short" else 6)
    world.simulator.blobs[str(blob.digest)] = served
    with world.reader(world.text("registry")) as reader, pytest.raises(RefusedError):
        list(reader.open_blob(blob))


def test_a_registry_that_serves_another_manifest_is_caught(world, plain):
    world.copy(f"oci:{plain.directory}", world.text("registry"))
    digest = plain.find().digest
    other = Manifest(Descriptor("x", Digest.of(b""), 0), ()).to_bytes()
    world.simulator.manifests["team/target", str(digest)] = (other, OCI_MANIFEST)
    by_digest = world.text("registry").removesuffix(":v1") + f"@{digest}"
    with world.reader(by_digest) as reader:
        with pytest.raises(RefusedError):
            reader.resolve()
        with pytest.raises(RefusedError):
            reader.document(digest)


def test_what_the_repository_has_is_not_sent_again(world, plain):
    world.copy(f"oci:{plain.directory}", world.text("registry"))
    world.simulator.requests.clear()
    world.copy(f"oci:{plain.directory}", world.text("registry"))
    assert world.simulator.paths("POST") == []


@pytest.mark.parametrize(("can_mount", "uploads"), [(True, 0), (False, 3)])
def test_a_blob_is_mounted_from_another_repository(world, plain, can_mount, uploads):
    world.copy(f"oci:{plain.directory}", world.text("registry"))
    world.simulator.can_mount = can_mount
    world.simulator.hides_blobs = True
    world.simulator.requests.clear()
    world.copy(world.text("registry"), world.text("registry", "other"))
    assert len([path for path in world.simulator.paths("PUT") if "/uploads/" in path]) == uploads


def test_one_platform_of_several_is_copied_alone(world, multi):
    index = multi.read_manifest(multi.find())
    source = f"oci:{multi.directory}"
    one = world.copy(source, f"oci:{world.directory / 'one'}", platforms=[index.manifests[1].platform])
    assert one.descriptor.digest == index.manifests[1].digest
    both = [entry.platform for entry in reversed(index.manifests)]
    world.copy(source, f"oci:{world.directory / 'two'}", platforms=both)
    layout = ImageLayout.open(world.directory / "two")
    document = layout.read_manifest(layout.find())
    assert isinstance(document, Index)
    assert [entry.platform for entry in document.manifests] == both


def test_an_oci_archive_is_a_tar_of_the_layout(world, plain):
    world.copy(f"oci:{plain.directory}", world.text("oci-archive"))
    with tarfile.open(world.directory / "target.oci.tar") as archive:
        assert archive.getnames()[:2] == ["oci-layout", "index.json"]


def test_an_unknown_name_is_an_answer(world, plain):
    reader = LayoutReader(plain, "nobody")
    with pytest.raises(InvalidInputError):
        reader.resolve()
    assert parse_manifest_or_index(reader.document(reader.resolve("latest").digest))
