import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.tenant.places.names import Place, PlaceKind


@pytest.mark.parametrize(
    ("text", "kind", "path", "name"),
    [
        ("oci:dir", PlaceKind.LAYOUT, "dir", None),
        ("oci:dir:v1", PlaceKind.LAYOUT, "dir", "v1"),
        ("oci-archive:a/b.tar:r.example/x:v1", PlaceKind.OCI_ARCHIVE, "a/b.tar", "r.example/x:v1"),
        ("docker-archive:/x.tar", PlaceKind.DOCKER_ARCHIVE, "/x.tar", None),
        ("docker-archive:x.tar:app:v1", PlaceKind.DOCKER_ARCHIVE, "x.tar", "app:v1"),
        ("./app", PlaceKind.LAYOUT, "app", None),
    ],
)
def test_a_path_ends_at_the_first_colon(text, kind, path, name):
    place = Place.parse(text)
    assert (place.kind, place.path, place.name) == (kind, Path(path), name)


@pytest.mark.parametrize("text", ["registry.example/team/app:v1", "docker://registry.example/team/app:v1"])
def test_what_has_no_prefix_is_in_a_registry(text):
    place = Place.parse(text)
    assert place.kind is PlaceKind.REGISTRY
    assert str(place.in_registry) == "registry.example/team/app:v1"


def test_a_directory_that_exists_is_a_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Place.parse("app").kind is PlaceKind.REGISTRY
    (tmp_path / "app").mkdir()
    assert Place.parse("app").kind is PlaceKind.LAYOUT


def test_a_file_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.tar").touch()
    with pytest.raises(InvalidInputError) as caught:
        Place.parse("app.tar")
    assert caught.value.detail == "app.tar is a file: is it oci-archive:app.tar or docker-archive:app.tar?"


@pytest.mark.parametrize("text", ["docker-daemon:app:v1", "containers-storage:app", "dir:app"])
def test_places_of_other_tools_are_not_looked_for_on_a_hub(text):
    with pytest.raises(InvalidInputError) as caught:
        Place.parse(text)
    assert caught.value.code == "image-place-invalid"


def test_a_name_that_no_file_can_have_is_a_reference():
    assert Place.parse("registry.example/" + "/".join(["a" * 60] * 4) + "@sha256:" + "0" * 64).reference
    with pytest.raises(InvalidInputError):
        Place.parse("a" * 5000)


@pytest.mark.parametrize(
    ("text", "guessed"), [("app", True), ("team/app:v1", True), ("docker.io/team/app", False)]
)
def test_whoever_names_no_host_may_have_meant_a_directory(text, guessed):
    assert Place.parse(text).guessed is guessed


@pytest.mark.parametrize("text", ["oci:", "docker-archive::x", "oci:a\0b", "", "NO NAME"])
def test_what_names_nothing_is_refused(text):
    with pytest.raises(InvalidInputError):
        Place.parse(text)


@given(st.text(max_size=40))
@settings(max_examples=60)
def test_any_text_is_a_place_or_refused(text):
    with contextlib.suppress(InvalidInputError):
        Place.parse(text)
