"""The specification that runc gets: what the agent approved, inside what the host confines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.enclave.boot.spec import approved_spec
from enclave_cc.enclave.resolved_user import ResolvedUser
from enclave_cc.formats.launch import ApprovedMount, LaunchConfiguration

MOUNTS = (ApprovedMount("/proc", "proc"), ApprovedMount("/dev/fuse", "device"))
LAUNCH = LaunchConfiguration(("/bin/x",), ("A=b",), "/srv", "app", "sha256:aa", mounts=MOUNTS)
USER = ResolvedUser(7, 8, (9,))
HOST = {
    "ociVersion": "1.0.2",
    "process": {
        "args": ["/bin/evil"],
        "env": ["LD_PRELOAD=x"],
        "cwd": "/evil",
        "user": {"uid": 0, "gid": 0, "additionalGids": [0], "umask": 18},
        "commandLine": "evil",
        "capabilities": {"bounding": ["CAP_KILL"]},
        "terminal": True,
    },
    "root": {"path": "/evil", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/proc", "type": "bind", "source": "/evil"},
        {"destination": "/proc", "type": "proc", "source": "/evil", "options": ["rbind"]},
        {"destination": "/bin", "type": "bind", "source": "/evil"},
    ],
    "hooks": {"createContainer": [{"path": "/evil"}]},
    "linux": {"namespaces": [{"type": "pid"}], "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}},
    "hostname": "pod",
}


def approved(host=HOST):
    return approved_spec(json.dumps(host).encode(), LAUNCH, USER, rootfs="/mounted")


def test_the_process_is_the_approved_one():
    process = approved()["process"]
    assert process == {
        "args": ["/bin/x"],
        "env": ["A=b"],
        "cwd": "/srv",
        "user": {"uid": 7, "gid": 8, "additionalGids": [9], "umask": 18},
        "capabilities": {"bounding": ["CAP_KILL"]},
        "terminal": True,
    }


def test_the_root_is_the_mounted_one_and_stays_read_only_if_it_was():
    assert approved()["root"] == {"path": "/mounted", "readonly": True}
    assert approved(HOST | {"root": {"path": "x"}})["root"] == {"path": "/mounted", "readonly": False}


def test_mounts_that_were_not_approved_are_dropped():
    assert approved()["mounts"] == [HOST["mounts"][0]]


def test_the_hosts_hooks_are_dropped_and_its_confinement_stays():
    spec = approved()
    assert "hooks" not in spec
    assert spec["linux"] == HOST["linux"]
    assert spec["hostname"] == "pod"
    assert "evil" not in json.dumps(spec)


def linux(**members):
    return approved(HOST | {"linux": members})["linux"]


def test_device_nodes_that_were_not_approved_are_dropped():
    fuse, evil = {"path": "/dev/fuse", "type": "c"}, {"path": "/opt/plugin.py", "type": "b"}
    assert linux(devices=[fuse, evil]) == {"devices": [fuse]}


def test_only_the_kernels_own_files_are_masked():
    kernel = ["/proc/kcore", "/sys/firmware"]
    masked = [*kernel, "/etc/app/denied", "/proc/../etc/passwd", "/proc"]
    assert linux(maskedPaths=masked) == {"maskedPaths": kernel}


def test_the_container_does_not_join_a_mount_namespace_of_the_hosts_choice():
    namespaces = [{"type": "mount", "path": "/proc/1/ns/mnt"}, {"type": "network", "path": "/run/netns/pod"}]
    assert linux(namespaces=namespaces) == {"namespaces": [{"type": "mount"}, namespaces[1]]}


@pytest.mark.parametrize(
    "host",
    [
        [],
        HOST | {"process": 1},
        HOST | {"mounts": [1]},
        HOST | {"mounts": [{"destination": "x"}]},
        HOST | {"linux": {"devices": [1]}},
        HOST | {"linux": {"namespaces": [1]}},
        HOST | {"linux": {"maskedPaths": [1]}},
    ],
)
def test_a_malformed_specification_is_refused(host):
    with pytest.raises(InvalidInputError) as caught:
        approved(host)
    assert caught.value.code == "runtime-spec-invalid"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    try:
        approved_spec(data, LAUNCH, USER, rootfs="/mounted")
    except InvalidInputError as error:
        assert error.code == "runtime-spec-invalid"  # noqa: PT017
