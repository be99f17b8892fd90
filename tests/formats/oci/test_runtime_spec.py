"""The host's specification is read with bounds, and paths mean what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.runtime_spec import RuntimeSpec, SpecProcess


def spec(**process):
    return json.dumps({"process": {"args": ["a"], "cwd": "/"} | process, "mounts": []}).encode()


def mounting(**mount):
    return json.dumps({"process": {"args": ["a"]}, "mounts": [mount]}).encode()


def with_devices(*devices):
    return json.dumps({"process": {"args": ["a"]}, "linux": {"devices": devices}}).encode()


@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_bind_mount_is_one_whatever_type_it_names(option):
    read = RuntimeSpec.parse(mounting(destination="/proc", type="proc", options=["nosuid", option]))
    assert read.mounts[0].kind == "bind"


def test_a_device_node_is_a_mount_of_its_own_kind():
    read = RuntimeSpec.parse(with_devices({"path": "/etc/x", "type": "b", "major": 7, "minor": 0}))
    assert [(mount.destination, mount.kind) for mount in read.mounts] == [("/etc/x", "device")]


def test_process_and_mounts_are_read():
    data = json.dumps(
        {
            "process": {
                "args": ["/bin/x", "1"],
                "env": ["A=b"],
                "cwd": "/w",
                "user": {"uid": 3, "gid": 4},
                "terminal": True,
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/data"}],
        }
    ).encode()
    read = RuntimeSpec.parse(data)
    assert read.process == SpecProcess(("/bin/x", "1"), ("A=b",), "/w", 3, 4, terminal=True)
    assert [mount.is_bind for mount in read.mounts] == [False, True]


def limited(limit):
    memory = {"limit": limit}
    return json.dumps(
        {"process": {"args": ["a"]}, "linux": {"resources": {"memory": memory}}, "annotations": {"a": "b"}}
    ).encode()


@pytest.mark.parametrize(("limit", "read"), [(1 << 28, 1 << 28), (0, None), (-1, None), (None, None)])
def test_annotations_and_the_memory_limit_are_read(limit, read):
    spec = RuntimeSpec.parse(limited(limit))
    assert (spec.memory_limit_bytes, dict(spec.annotations)) == (read, {"a": "b"})


def test_a_specification_may_have_neither():
    assert RuntimeSpec.parse(spec()).memory_limit_bytes is None
    assert not RuntimeSpec.parse(spec()).annotations


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"process":[]}',
        spec(args=[1]),
        spec(args=["a\0b"]),
        spec(env=["A"] * 16385),
        spec(user={"uid": "0"}),
        mounting(destination="/etc/../dev/x"),
        mounting(destination="relative"),
        mounting(destination="//proc"),
        mounting(destination="/proc/"),
        mounting(),
        mounting(destination="/proc", options=[1]),
        with_devices({}),
        limited("1Gi"),
        limited(True),
        b'{"process":{},"annotations":{"a":1}}',
        b'{"process":{},"annotations":["a"]}',
        b'{"process":{},"linux":{"resources":[]}}',
        with_devices({"path": "/dev/../etc/x"}),
        with_devices(*[{"path": "/dev/x"}] * 1025),
        b'{"process":{},"mounts":[' + b",".join([b"{}"] * 1025) + b"]}",
        b'"' + b"x" * (2 << 20) + b'"',
    ],
)
def test_doubtful_specifications_are_refused(data):
    with pytest.raises(InvalidInputError) as caught:
        RuntimeSpec.parse(data)
    assert caught.value.code == "runtime-spec-invalid"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    for parse in (RuntimeSpec.parse, SpecProcess.parse):
        try:
            parse(data)
        except InvalidInputError as error:
            assert error.code == "runtime-spec-invalid"  # noqa: PT017
