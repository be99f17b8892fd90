"""The owner's [rootfs] table: what may be chosen, and bounds that mean something."""

from __future__ import annotations

import pytest

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner.rootfs import DEFAULT_ROOTFS_POLICY, RootfsPolicy
from enclave_cc.formats.owner.settings import OwnerSettings
from enclave_cc.formats.rootfs_options import GREATEST_BYTES, LEAST_BYTES, Writable

LEAST = {
    "memory_bytes": LEAST_BYTES[Writable.MEMORY],
    "scratch_bytes": LEAST_BYTES[Writable.SCRATCH],
    "decrypt_to_memory_bytes": 0,
}


def parse(**members):
    return RootfsPolicy.parse(Fields(members, "enclave-cc.toml.rootfs"))


def test_nothing_said_means_the_defaults():
    assert parse() == DEFAULT_ROOTFS_POLICY == OwnerSettings.parse({}).rootfs
    assert DEFAULT_ROOTFS_POLICY.writable == (Writable.MEMORY, Writable.SCRATCH)
    assert DEFAULT_ROOTFS_POLICY.share_layers


def test_the_settings_read_the_table():
    table = {"writable": ["scratch"], "scratch_bytes": 1 << 30, "share_layers": False}
    policy = OwnerSettings.parse({"rootfs": table}).rootfs
    assert policy.writable == (Writable.SCRATCH,)
    assert policy.greatest_bytes(Writable.SCRATCH) == 1 << 30
    assert policy.greatest_bytes(Writable.MEMORY) == DEFAULT_ROOTFS_POLICY.memory_bytes
    assert not policy.share_layers


@pytest.mark.parametrize(
    "kinds", [[], ["disk"], ["memory", "memory"], ["memory", 1], "memory", {"memory": True}, [["memory"]]]
)
def test_a_list_of_anything_but_kinds_is_refused(kinds):
    with pytest.raises(FieldError):
        parse(writable=kinds)


@pytest.mark.parametrize("name", sorted(LEAST))
def test_every_bound_has_bounds(name):
    assert getattr(parse(**{name: LEAST[name]}), name) == LEAST[name]
    assert getattr(parse(**{name: GREATEST_BYTES}), name) == GREATEST_BYTES
    for value in (LEAST[name] - 1, GREATEST_BYTES + 1, True, "1Gi", 1.5):
        with pytest.raises(FieldError):
            parse(**{name: value})


@pytest.mark.parametrize("members", [{"share_layers": 1}, {"disk_bytes": 1}])
def test_other_members_are_refused(members):
    with pytest.raises(FieldError):
        parse(**members)
