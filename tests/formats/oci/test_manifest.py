import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import OCI_INDEX, OCI_MANIFEST, Compression, LayerMediaType

DIGEST = Digest.of(b"x")
DESCRIPTOR = {"mediaType": "application/x", "digest": str(DIGEST), "size": 1}
MANIFEST = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": DESCRIPTOR, "layers": [DESCRIPTOR]}
AMD64 = Platform("linux", "amd64")

# Documents that are nearly right find more than random bytes.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["layers"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*MANIFEST, *DESCRIPTOR, "manifests", "annotations", "platform", "rootfs", "diff_ids"]
            ),
            inner,
            max_size=6,
        )
    ),
)


def _refused(parse, document, code="manifest-invalid"):
    with pytest.raises(InvalidInputError) as caught:
        parse(document if isinstance(document, bytes) else json.dumps(document).encode())
    assert caught.value.code == code


def _entry(platform, content, media_type=OCI_MANIFEST):
    return Descriptor(media_type, Digest.of(content), 1, platform=platform)


def test_a_manifest_survives_the_round_trip():
    layer = Descriptor("application/x", DIGEST, 7, {"a": "b"})
    manifest = Manifest(layer, (layer, layer), annotations={"c": "d"})
    assert Manifest.parse(manifest.to_bytes()) == manifest


def test_an_artifact_says_what_it_is_and_what_it_refers_to():
    subject = Descriptor(OCI_MANIFEST, DIGEST, 7, artifact_type="application/x")
    artifact = Manifest(subject, (), subject=subject, artifact_type="application/y")
    assert Manifest.parse(artifact.to_bytes()) == artifact
    assert Index.parse(Index((subject,)).to_bytes()).manifests == (subject,)


def test_an_index_survives_the_round_trip():
    index = Index((_entry(Platform("linux", "arm64", "v8"), b"1"), _entry(None, b"2")))
    assert Index.parse(index.to_bytes()) == index
    assert parse_manifest_or_index(index.to_bytes()) == index


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"schemaVersion": True},
        {"mediaType": OCI_INDEX},
        {"mediaType": 7},
        {"config": None},
        {"config": {**DESCRIPTOR, "size": -1}},
        {"config": {**DESCRIPTOR, "size": 1 << 63}},
        {"config": {**DESCRIPTOR, "size": 1.5}},
        {"config": {**DESCRIPTOR, "digest": "sha256:../../etc"}},
        {"subject": {}},
        {"artifactType": 1},
        {"layers": None},
        {"layers": {}},
        {"layers": ["x"]},
        {"layers": [{**DESCRIPTOR, "annotations": {"a": 1}}]},
        {"manifests": []},
    ],
)
def test_one_wrong_member_makes_a_manifest_malformed(change):
    _refused(Manifest.parse, {**MANIFEST, **change})


def test_a_body_that_is_manifest_and_index_at_once_is_neither():
    both = {**MANIFEST, "manifests": [DESCRIPTOR]}
    _refused(Manifest.parse, both)
    _refused(Index.parse, {**both, "mediaType": OCI_INDEX})
    _refused(parse_manifest_or_index, both)


def test_a_member_that_occurs_twice_makes_a_manifest_malformed():
    text = json.dumps(MANIFEST)
    _refused(Manifest.parse, (text[:-1] + ',"layers":[]}').encode())


def test_a_manifest_larger_than_any_is_not_parsed():
    _refused(Manifest.parse, b" " * (MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("parse", [Manifest.parse, Index.parse, parse_manifest_or_index, ImageConfig.parse])
@given(data=st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_parse_or_are_refused(parse, data):
    # Whatever else were raised would fail the test.
    with contextlib.suppress(InvalidInputError):
        parse(data)


def test_the_platform_decides_between_manifests():
    index = Index((_entry(Platform("linux", "arm64"), b"arm"), _entry(AMD64, b"amd")))
    assert index.select(AMD64).digest == Digest.of(b"amd")


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("linux/arm", ["linux/arm/v7"], 0),
        ("linux/arm/v6", ["linux/arm"], None),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v7", ["linux/armhf"], 0),
        ("linux/arm/v6", ["linux/armel"], 0),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/aarch64"], 0),
        ("linux/arm64", ["linux/arm64/v9"], None),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v1"], 0),
        ("linux/amd64", ["linux/x86_64"], 0),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64", ["linux/386"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["windows/amd64", "unknown/unknown", "Linux/AMD64"], 2),
        ("linux/riscv64", ["linux/riscv64"], 0),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
    ],
)
def test_the_nearest_variant_wins_and_one_that_does_not_run_is_never_chosen(wanted, offered, chosen):
    entries = [
        _entry(Platform(*text.split("/")), text.encode() + b"%d" % n) for n, text in enumerate(offered)
    ]
    if chosen is None:
        with pytest.raises(InvalidInputError) as caught:
            Index(tuple(entries)).select(Platform(*wanted.split("/")))
        assert caught.value.code == "image-platform-missing"
    else:
        assert Index(tuple(entries)).select(Platform(*wanted.split("/"))) == entries[chosen]


def test_a_single_entry_without_a_platform_is_taken_where_no_other_fits():
    silent, other = _entry(None, b"1"), _entry(Platform("linux", "arm64"), b"2")
    artifact = dataclasses.replace(_entry(None, b"3"), artifact_type="application/vnd.example")
    assert Index((other, artifact, silent)).select(AMD64) == silent
    assert Index((silent, _entry(AMD64, b"4"))).select(AMD64) != silent
    with pytest.raises(InvalidInputError):
        Index((silent, _entry(None, b"5"))).select(AMD64)
    with pytest.raises(InvalidInputError):
        Index((artifact,)).select(AMD64)


def test_an_old_manifest_of_docker_is_refused_by_its_name():
    with pytest.raises(InvalidInputError) as caught:
        parse_manifest_or_index(json.dumps({"schemaVersion": 1, "name": "a", "fsLayers": []}).encode())
    assert "Docker's old format" in caught.value.detail


def test_an_index_without_the_platform_says_what_it_has():
    index = Index((_entry(Platform("linux", "arm64"), b"1"), _entry(AMD64, b"2", "text/plain")))
    with pytest.raises(InvalidInputError) as caught:
        index.select(AMD64)
    assert caught.value.code == "image-platform-missing"
    assert "linux/arm64" in caught.value.detail


def test_an_image_configuration_survives_the_round_trip():
    config = ImageConfig(
        "linux", "amd64", (DIGEST,), ("/bin/app",), ("--serve",), ("A=b",), "1000:1000", "/srv", "v2"
    )
    assert ImageConfig.parse(config.to_bytes()) == config


def test_null_members_of_a_configuration_are_absent_ones():
    text = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Entrypoint": None, "Cmd": None, "Env": None, "Unknown": 1},
        "history": [],
    }
    assert ImageConfig.parse(json.dumps(text).encode()) == ImageConfig("linux", "amd64", ())


@pytest.mark.parametrize(
    "change", [{"os": None}, {"rootfs": {"type": "x"}}, {"rootfs": {"type": "layers", "diff_ids": ["md5:1"]}}]
)
def test_a_configuration_without_what_is_needed_is_malformed(change):
    good = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}
    _refused(ImageConfig.parse, {**good, **change}, "image-config-invalid")


@pytest.mark.parametrize(
    ("text", "compression", "encrypted"),
    [
        ("application/vnd.oci.image.layer.v1.tar", Compression.NONE, False),
        ("application/vnd.oci.image.layer.v1.tar+zstd+encrypted", Compression.ZSTD, True),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", Compression.GZIP, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression.GZIP, False),
        ("application/vnd.docker.image.rootfs.diff.tar", Compression.NONE, False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression.GZIP, False),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression.ZSTD, False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression.GZIP, False),
    ],
)
def test_layer_media_types_of_both_families_are_understood(text, compression, encrypted):
    assert LayerMediaType.parse(text) == LayerMediaType(compression, encrypted)


@pytest.mark.parametrize(
    "text", ["", "application/x", "application/vnd.oci.image.layer.v1.tar+lz4", "+encrypted"]
)
def test_other_media_types_are_no_layers(text):
    with pytest.raises(ValueError, match="media type"):
        LayerMediaType.parse(text)


def test_images_made_by_others_parse(vectors):
    for name in ("oci-plain", "oci-encrypted", "oci-jwe-skopeo1.9.3"):
        layout = vectors / "oci" / name
        index = Index.parse((layout / "index.json").read_bytes())
        body = (layout / "blobs" / "sha256" / index.manifests[0].digest.hex).read_bytes()
        manifest = Manifest.parse(body)
        config = ImageConfig.parse((layout / "blobs" / "sha256" / manifest.config.digest.hex).read_bytes())
        assert len(config.diff_ids) == len(manifest.layers)
