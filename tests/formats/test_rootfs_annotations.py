"""A pod's wishes: for all of its containers, for one of them, and those that mean nothing."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.rootfs_annotations import (
    CONTAINER_NAME,
    DECRYPT_TO_MEMORY,
    PREFIX,
    WRITABLE,
    WRITABLE_SIZE,
    RootfsWish,
)
from enclave_cc.formats.rootfs_options import Writable


def test_nothing_asked_means_no_wish():
    assert RootfsWish.read({}) == RootfsWish()
    assert RootfsWish.read({CONTAINER_NAME: "web", "enclave-cc.dev/initdata": "x"}) == RootfsWish()


def test_a_pods_wishes_are_read():
    wish = RootfsWish.read({WRITABLE: "scratch", WRITABLE_SIZE: "2Gi", DECRYPT_TO_MEMORY: "true"})
    assert wish == RootfsWish(Writable.SCRATCH, 2 << 30, decrypt_to_memory=True)


def test_the_wish_for_one_container_wins():
    annotations = {WRITABLE: "memory", f"{WRITABLE}.web": "scratch", f"{WRITABLE_SIZE}.web": "64Mi"}
    assert RootfsWish.read({**annotations, CONTAINER_NAME: "web"}) == RootfsWish(Writable.SCRATCH, 64 << 20)
    assert RootfsWish.read({**annotations, CONTAINER_NAME: "db"}) == RootfsWish(Writable.MEMORY)
    assert RootfsWish.read(annotations) == RootfsWish(Writable.MEMORY)


def test_what_is_asked_for_another_container_is_not_even_read():
    assert RootfsWish.read({f"{WRITABLE_SIZE}.web": "much", CONTAINER_NAME: "db"}) == RootfsWish()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (WRITABLE, "disk"),
        (WRITABLE, "Memory"),
        (WRITABLE, ""),
        (WRITABLE_SIZE, "512MB"),
        (WRITABLE_SIZE, "-1"),
        (WRITABLE_SIZE, ""),
        (DECRYPT_TO_MEMORY, "yes"),
        (DECRYPT_TO_MEMORY, "True"),
        (f"{WRITABLE}.web", "disk"),
    ],
)
def test_a_value_without_meaning_is_refused_with_what_it_should_be(name, value):
    with pytest.raises(InvalidInputError) as caught:
        RootfsWish.read({name: value, CONTAINER_NAME: "web"})
    error = caught.value
    assert error.code == "rootfs-annotation-invalid"
    (finding,) = error.findings
    assert (finding.rule, finding.outcome, finding.actual) == ("rootfs.annotation", Outcome.FAILED, value)
    assert finding.expected.startswith(f"{name}: ")
    assert not value or value not in error.summary


@pytest.mark.parametrize("name", ["writeable", "", "size", "writable-size-bytes.web", ".web"])
def test_a_name_that_does_not_exist_is_refused(name):
    with pytest.raises(InvalidInputError) as caught:
        RootfsWish.read({PREFIX + name: "memory"})
    assert caught.value.code == "rootfs-annotation-invalid"


@given(
    st.dictionaries(
        st.one_of(st.sampled_from([WRITABLE, WRITABLE_SIZE, DECRYPT_TO_MEMORY]), st.text(max_size=8)),
        st.text(max_size=12),
    )
)
def test_no_annotations_raise_anything_but_the_declared_error(annotations):
    with suppress(InvalidInputError):
        assert isinstance(RootfsWish.read(annotations), RootfsWish)
