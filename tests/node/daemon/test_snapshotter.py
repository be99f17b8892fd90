"""The Snapshots service over a real socket, in containerd's own order of calls."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.node.daemon.containerd_messages import SNAPSHOTS
from enclave_cc.node.daemon.snapshot_policy import SnapshotPolicy
from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL, REFERENCE_LABEL
from enclave_cc.node.daemon.snapshot_store import SnapshotStore
from enclave_cc.node.daemon.snapshotter import GUEST_OPTION

Code = grpc.StatusCode


def guest_layer(served, key, reference, parent=""):
    labels = {REFERENCE_LABEL: reference, IMAGE_LABEL: "registry.example/app:1"}
    return served.code("Prepare", key=key, parent=parent, labels=labels)


def host_layer(served, key, reference, parent=""):
    labels = {REFERENCE_LABEL: reference, IMAGE_LABEL: "registry.example/pause:3"}
    return served.call("Prepare", key=key, parent=parent, labels=labels)["mounts"]


def test_a_guests_layers_exist_already_and_can_be_found(served, prefetched):
    assert guest_layer(served, "k1", "chain1") is Code.ALREADY_EXISTS
    assert guest_layer(served, "k2", "chain2", parent="k1") is Code.ALREADY_EXISTS
    found = served.list()
    assert found["k2"]["parent"] == "k1"
    assert found["k2"]["kind"] == 3
    assert found["k2"]["labels"][REFERENCE_LABEL] == "chain2"
    assert len(prefetched) == 2


def test_asking_for_the_same_guest_layer_again_makes_no_second_one(served):
    guest_layer(served, "k1", "chain1")
    assert guest_layer(served, "k2", "chain1") is Code.ALREADY_EXISTS
    assert list(served.list()) == ["k1"]


def test_a_container_on_a_guest_image_gets_an_empty_marked_directory(served):
    guest_layer(served, "k1", "chain1")
    (mount,) = served.call("Prepare", key="c1", parent="k1")["mounts"]
    assert mount["type"] == "bind"
    assert mount["options"] == ["rbind", "rw", GUEST_OPTION]
    assert [path.name for path in Path(mount["source"]).iterdir()] == ["seeded"]
    assert served.call("Mounts", key="c1")["mounts"] == [mount]


def test_without_an_image_label_a_layer_is_the_guests(served):
    assert served.code("Prepare", key="k1", labels={REFERENCE_LABEL: "chain1"}) is Code.ALREADY_EXISTS


def test_a_host_image_is_unpacked_as_plain_overlay(served):
    (bind,) = host_layer(served, "k1", "chain1")
    Path(bind["source"], "file").write_bytes(b"x" * 5000)
    served.call("Commit", name="l1", key="k1")
    (overlay,) = host_layer(served, "k2", "chain2", parent="l1")
    assert overlay["type"] == "overlay"
    served.call("Commit", name="l2", key="k2")
    (mount,) = served.call("Prepare", key="c1", parent="l2")["mounts"]
    lower = next(option for option in mount["options"] if option.startswith("lowerdir="))
    assert lower.count(":") == 1
    assert lower.endswith(bind["source"])
    assert GUEST_OPTION not in mount["options"]
    (view,) = served.call("View", key="v1", parent="l1")["mounts"]
    assert view == {"type": "bind", "source": bind["source"], "target": "", "options": ["rbind", "ro"]}
    usage = served.call("Usage", key="l1")
    assert usage["size"] >= 5000
    assert usage["inodes"] == 1


def test_a_host_image_over_a_guests_layers_is_refused(served):
    guest_layer(served, "k1", "chain1")
    labels = {REFERENCE_LABEL: "chain2", IMAGE_LABEL: "registry.example/pause:3"}
    assert served.code("Prepare", key="k2", parent="k1", labels=labels) is Code.FAILED_PRECONDITION


def test_a_name_that_only_begins_like_a_host_image_is_none():
    policy = SnapshotPolicy(("registry.example/pause", "mirror.example/"))
    assert policy.is_host_image("registry.example/pause")
    assert policy.is_host_image("registry.example/pause:3.8")
    assert policy.is_host_image("registry.example/pause@sha256:0")
    assert policy.is_host_image("mirror.example/any")
    assert not policy.is_host_image("registry.example/pause-evil:1")
    assert not policy.is_host_image("")


def test_a_snapshot_with_children_stays(served):
    host_layer(served, "k1", "chain1")
    served.call("Commit", name="l1", key="k1")
    (mount,) = served.call("Prepare", key="c1", parent="l1")["mounts"]
    assert served.code("Remove", key="l1") is Code.FAILED_PRECONDITION
    served.call("Remove", key="c1")
    served.call("Remove", key="l1")
    assert served.list() == {}
    assert not any(
        Path(option.partition("=")[2]).exists() for option in mount["options"] if "upperdir" in option
    )


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("Stat", {"key": "none"}, Code.NOT_FOUND),
        ("Mounts", {"key": "none"}, Code.NOT_FOUND),
        ("Remove", {"key": "none"}, Code.NOT_FOUND),
        ("Usage", {"key": "none"}, Code.NOT_FOUND),
        ("Commit", {"key": "none", "name": "x"}, Code.NOT_FOUND),
        ("Prepare", {"key": "x", "parent": "none"}, Code.NOT_FOUND),
        ("Prepare", {"key": "x", "parent": "active"}, Code.INVALID_ARGUMENT),
        ("Prepare", {"key": "active"}, Code.ALREADY_EXISTS),
        ("Prepare", {"key": ""}, Code.INVALID_ARGUMENT),
        ("Commit", {"key": "active", "name": "layer"}, Code.ALREADY_EXISTS),
        ("Commit", {"key": "layer", "name": "x"}, Code.FAILED_PRECONDITION),
        ("Mounts", {"key": "layer"}, Code.FAILED_PRECONDITION),
        ("Update", {}, Code.INVALID_ARGUMENT),
        ("Update", {"info": {"name": "layer"}, "update_mask": {"paths": ["kind"]}}, Code.INVALID_ARGUMENT),
    ],
)
def test_refusals_have_the_code_that_containerd_expects(served, method, request_, code):
    served.call("Prepare", key="k1")
    served.call("Commit", key="k1", name="layer")
    served.call("Prepare", key="active")
    assert served.code(method, **request_) is code


def test_labels_are_updated_by_mask(served):
    served.call("Prepare", key="a", labels={"one": "1", "two": "2"})

    def update(paths, **labels):
        request = {"info": {"name": "a", "labels": labels}, "update_mask": {"paths": paths}}
        return served.call("Update", **request)["info"]["labels"]

    assert update(["labels.one"], one="x", two="ignored") == {"one": "x", "two": "2"}
    assert update(["labels.one"]) == {"two": "2"}
    assert update(["labels"], three="3") == {"three": "3"}
    assert update([], four="4") == {"four": "4"}


def test_times_are_recorded(served):
    served.call("Prepare", key="a")
    info = served.call("Stat", key="a")["info"]
    assert info["created_at"]["seconds"] > 0
    assert info["kind"] == 2


def test_a_long_list_comes_in_pages(served):
    for number in range(120):
        served.call("Prepare", key=f"k{number}")
    assert len(served.list()) == 120


def test_cleanup_removes_what_belongs_to_nobody(served, short_tmp):
    served.call("Prepare", key="a")
    for name in ("99", "rubbish"):
        (short_tmp / "snapshots" / name).mkdir()
    served.call("Cleanup")
    assert [path.name for path in (short_tmp / "snapshots").iterdir()] == ["1"]


@settings(max_examples=60, deadline=None, suppress_health_check=["function_scoped_fixture"])
@given(method=st.sampled_from(sorted(set(SNAPSHOTS.methods) - {"List"})), data=st.binary(max_size=100))
def test_any_bytes_get_a_status_and_the_service_stays(served, method, data):
    assert served.code_of(method, data) not in {Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE}
    served.list()


def test_bytes_that_are_no_message_are_an_invalid_argument(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.raw("Prepare", b"\xff\xff")
    assert caught.value.code() is Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        list(served.channel.unary_stream(f"/{SNAPSHOTS.name}/List")(b"\xff\xff", timeout=10))
    assert caught.value.code() is Code.INVALID_ARGUMENT


def test_a_change_that_cannot_be_committed_does_not_block_those_after_it(tmp_path):
    store = SnapshotStore(tmp_path / "snapshots.db")
    store._database.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE above (id INTEGER PRIMARY KEY);"
        "CREATE TABLE below (id INTEGER REFERENCES above DEFERRABLE INITIALLY DEFERRED);"
    )
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        store._database.execute("INSERT INTO below VALUES (1)")
    with store.transaction():
        number = store.fresh_number()
    assert number > 0
    store.close()
