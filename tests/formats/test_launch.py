"""The launch configuration: round trip, and nothing else parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.launch import MAX_LAUNCH_BYTES, ApprovedMount, LaunchConfiguration
from enclave_cc.formats.local_attestation.transcript import MAX_MESSAGE_BYTES
from enclave_cc.formats.rootfs_options import GREATEST_BYTES, LEAST_BYTES, RootfsOptions, Writable

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5).map(tuple)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROOTFS = st.builds(
    RootfsOptions,
    st.sampled_from(Writable),
    st.integers(max(LEAST_BYTES.values()), GREATEST_BYTES),
    st.booleans(),
    st.integers(0, GREATEST_BYTES),
)


@given(
    st.builds(
        LaunchConfiguration,
        TEXTS,
        TEXTS,
        TEXT,
        TEXT,
        TEXT,
        st.booleans(),
        st.lists(st.builds(ApprovedMount, TEXT, TEXT)).map(tuple),
        ROOTFS,
    )
)
def test_what_is_written_is_read(launch):
    assert LaunchConfiguration.parse(launch.to_bytes()) == launch


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    with pytest.raises(InvalidInputError) as caught:
        LaunchConfiguration.parse(data)
    assert caught.value.code == "launch-configuration-invalid"


@pytest.mark.parametrize(
    "change",
    [
        (b'"exec":false', b'"exec":0'),
        (b'"args":["a"]', b'"args":[1]'),
        (b'"mounts":[["/a","bind"]]', b'"mounts":[["/a"]]'),
        (b'"cwd":"/"', b'"cwd":"/","more":1'),
        (b'"cwd":"/",', b""),
        (b'"rootfs":{', b'"rootfs":{"more":1,'),
        (b'"writable":"memory"', b'"writable":"disk"'),
        (b'"writable_bytes":1073741824', b'"writable_bytes":0'),
        (b'"writable_bytes":1073741824', b'"writable_bytes":1099511627777'),
        (b'"writable_bytes":1073741824', b'"writable_bytes":true'),
        (b'"decrypt_to_memory":false', b'"decrypt_to_memory":0'),
        (b'"decrypt_bytes_limit":1073741824', b'"decrypt_bytes_limit":-1'),
        (b'"decrypt_bytes_limit":1073741824,', b""),
    ],
)
def test_members_of_another_kind_are_refused(change):
    data = LaunchConfiguration(("a",), (), "/", "", "d", mounts=(ApprovedMount("/a", "bind"),)).to_bytes()
    assert change[0] in data
    with pytest.raises(InvalidInputError):
        LaunchConfiguration.parse(data.replace(*change))


def test_a_configuration_that_would_not_fit_the_attested_channel_is_refused_when_it_is_written():
    huge = LaunchConfiguration(("/bin/x",), ("A=" + "x" * MAX_LAUNCH_BYTES,), "/", "", "sha256:aa")
    with pytest.raises(InvalidInputError) as caught:
        huge.to_bytes()
    assert caught.value.code == "runtime-spec-invalid"
    assert MAX_LAUNCH_BYTES < MAX_MESSAGE_BYTES
