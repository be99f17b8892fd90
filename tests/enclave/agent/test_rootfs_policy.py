"""A pod's choice inside the owner's bounds: each rule, and that only it says no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Outcome
from enclave_cc.enclave.agent.rootfs_policy import approve_rootfs, rootfs_as_built
from enclave_cc.formats.oci.runtime_spec import RuntimeSpec, SpecProcess
from enclave_cc.formats.owner.rootfs import RootfsPolicy
from enclave_cc.formats.rootfs_annotations import (
    CONTAINER_NAME,
    DECRYPT_TO_MEMORY,
    WRITABLE,
    WRITABLE_SIZE,
)
from enclave_cc.formats.rootfs_options import LEAST_BYTES, RootfsOptions, Writable

POLICY = RootfsPolicy(memory_bytes=1 << 30, scratch_bytes=8 << 30, decrypt_to_memory_bytes=256 << 20)
PROCESS = SpecProcess(args=("/bin/x",), env=(), cwd="/", uid=0, gid=0, terminal=False)


def approve(annotations=None, policy=POLICY, memory_limit_bytes=None):
    spec = RuntimeSpec(PROCESS, (), annotations or {}, memory_limit_bytes)
    return approve_rootfs(spec, policy)[0]


def refused(annotations, policy=POLICY, **spec):
    """Return the one finding that failed."""
    with pytest.raises(RefusedError) as caught:
        approve(annotations, policy, **spec)
    error = caught.value
    assert (error.code, error.stage) == ("rootfs-policy-refused", Stage.LAUNCH)
    (failed,) = [finding for finding in error.findings if finding.outcome is Outcome.FAILED]
    assert failed.expected
    assert failed.actual not in error.summary
    assert failed.remedy
    return failed


def test_a_pod_that_asks_for_nothing_gets_the_owners_first_kind():
    assert approve() == RootfsOptions(Writable.MEMORY, 1 << 30, decrypt_bytes_limit=256 << 20)
    scratch_first = replace(POLICY, writable=(Writable.SCRATCH, Writable.MEMORY))
    assert approve(policy=scratch_first) == RootfsOptions(
        Writable.SCRATCH, 8 << 30, decrypt_bytes_limit=256 << 20
    )


def test_a_pod_chooses_among_what_the_owner_allows():
    options = approve({WRITABLE: "scratch", WRITABLE_SIZE: "2Gi", DECRYPT_TO_MEMORY: "true"})
    assert options == RootfsOptions(
        Writable.SCRATCH, 2 << 30, decrypt_to_memory=True, decrypt_bytes_limit=256 << 20
    )


def test_containers_of_one_pod_choose_for_themselves():
    annotations = {WRITABLE: "memory", f"{WRITABLE}.db": "scratch"}
    assert approve({**annotations, CONTAINER_NAME: "web"}).writable is Writable.MEMORY
    assert approve({**annotations, CONTAINER_NAME: "db"}).writable is Writable.SCRATCH


def test_a_kind_that_the_owner_does_not_name_is_refused():
    finding = refused({WRITABLE: "scratch"}, replace(POLICY, writable=(Writable.MEMORY,)))
    assert (finding.rule, finding.expected, finding.actual) == ("rootfs.writable", "memory", "scratch")


@pytest.mark.parametrize(
    ("writable", "size"), [("memory", (1 << 30) + 1), ("scratch", (8 << 30) + 1), ("memory", 0)]
)
def test_a_size_out_of_bounds_is_refused(writable, size):
    finding = refused({WRITABLE: writable, WRITABLE_SIZE: str(size)})
    assert (finding.rule, finding.actual) == ("rootfs.size", f"{size} bytes")


@pytest.mark.parametrize("writable", list(Writable))
def test_the_bounds_themselves_are_allowed(writable):
    for size in (LEAST_BYTES[writable], POLICY.greatest_bytes(writable)):
        assert approve({WRITABLE: str(writable), WRITABLE_SIZE: str(size)}).writable_bytes == size


def test_decrypting_to_memory_is_refused_where_the_owner_forbids_it():
    forbidding = replace(POLICY, decrypt_to_memory_bytes=0)
    finding = refused({DECRYPT_TO_MEMORY: "true"}, forbidding)
    assert (finding.rule, finding.actual) == ("rootfs.decrypt-to-memory", "true")
    assert not approve({DECRYPT_TO_MEMORY: "false"}, forbidding).decrypt_to_memory


def test_every_rule_that_fails_is_told():
    with pytest.raises(RefusedError) as caught:
        approve({WRITABLE: "scratch", WRITABLE_SIZE: "9Gi"}, replace(POLICY, writable=(Writable.MEMORY,)))
    failed = [finding.rule for finding in caught.value.findings if finding.outcome is Outcome.FAILED]
    assert failed == ["rootfs.writable", "rootfs.size"]


@pytest.mark.parametrize(
    ("limit", "size"), [(None, 1 << 30), (512 << 20, 256 << 20), (4 << 30, 1 << 30), (1, 1 << 20)]
)
def test_without_a_size_memory_fits_the_containers_limit(limit, size):
    assert approve(memory_limit_bytes=limit).writable_bytes == size


def test_scratch_and_sizes_that_were_asked_for_do_not_follow_the_memory_limit():
    assert approve({WRITABLE: "scratch"}, memory_limit_bytes=64 << 20).writable_bytes == 8 << 30
    assert approve({WRITABLE_SIZE: "1Gi"}, memory_limit_bytes=64 << 20).writable_bytes == 1 << 30


def test_a_wish_that_means_nothing_is_no_refusal_by_the_owner():
    with pytest.raises(InvalidInputError) as caught:
        approve({WRITABLE: "disk"})
    assert caught.value.code == "rootfs-annotation-invalid"


def test_an_image_that_nobody_specified_gets_the_owners_default():
    assert rootfs_as_built(POLICY) == approve()
