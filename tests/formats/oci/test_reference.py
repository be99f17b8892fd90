import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("localhost/app", "localhost/app:latest"),
        ("registry.example:5000/a/b/c:v1.2_3-4", "registry.example:5000/a/b/c:v1.2_3-4"),
        ("Registry.Example/app", "registry.example/app:latest"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        (f"registry.example/app@sha256:{HEX}", f"registry.example/app@sha256:{HEX}"),
        (f"registry.example/app:1@sha256:{HEX}", f"registry.example/app:1@sha256:{HEX}"),
        ("registry.example/a__b/c--d", "registry.example/a__b/c--d:latest"),
    ],
)
def test_spellings_of_one_image_become_one_value(text, normal):
    assert str(Reference.parse(text)) == normal
    assert Reference.parse(normal) == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/app",
        "app/",
        "APP",
        "registry.example/App",
        "registry.example//app",
        "registry.example/app:",
        "registry.example/app:-x",
        "registry.example/app:" + "x" * 129,
        "registry.example/app@sha256:abc",
        "registry.example/app@md5:" + "a" * 32,
        f"registry.example/app@sha256:{HEX.upper()}",
        f"registry.example/app@sha256:{HEX}@sha256:{HEX}",
        "https://registry.example/app",
        "registry.example/../app",
        "user@registry.example/app",
        "registry.example/" + "a" * 256,
        "registry.example/a\nb",
        "registry.example/app:1\n",
        "a" * 5000,
    ],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(InvalidInputError) as caught:
        Reference.parse(text)
    assert caught.value.code == "reference-invalid"


@given(st.text())
def test_any_text_parses_or_is_refused(text):
    try:
        reference = Reference.parse(text)
    except InvalidInputError:
        return
    assert Reference.parse(str(reference)) == reference


def test_a_digest_is_asked_for_before_a_tag():
    assert Reference.parse(f"registry.example/app:1@sha256:{HEX}").target == f"sha256:{HEX}"
    assert Reference.parse("registry.example/app:1").target == "1"


def test_a_name_in_a_signature_stays_without_a_tag():
    assert Reference.parse("registry.example/app", default_tag=None).tag is None


def test_a_reference_can_point_elsewhere_in_its_repository():
    reference = Reference.parse("registry.example/app:1")
    assert str(reference.with_tag("2")) == "registry.example/app:2"
    with pytest.raises(InvalidInputError):
        reference.with_tag("../2")
