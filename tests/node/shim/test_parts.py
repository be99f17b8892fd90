"""The shim's small parts, each on its own."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.request_id import parse_request_id
from enclave_cc.formats.initdata import decode_annotation, encode_annotation
from enclave_cc.formats.local_attestation import app_config_id as of_the_agent
from enclave_cc.node.shim import boot_record
from enclave_cc.node.shim.address import group_of, socket_path
from enclave_cc.node.shim.agent_log import AgentLog
from enclave_cc.node.shim.arguments import Arguments, UsageError
from enclave_cc.node.shim.console import Console
from enclave_cc.node.shim.directories import remove_tree
from enclave_cc.node.shim.enclave import app_config_id
from enclave_cc.node.shim.failures import Failure
from enclave_cc.node.shim.initdata import ANNOTATIONS, RefusedInitdata, initdata_of
from enclave_cc.node.shim.json_text import InvalidJson, dumps, loads
from enclave_cc.node.shim.pump import Pump, into
from enclave_cc.node.shim.reactor import Reactor
from enclave_cc.node.shim.request_id import fresh_request_id
from enclave_cc.node.shim.settings import InvalidSettings, Settings
from enclave_cc.node.shim.stdio import Streams

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TEXT = b'version = "0.1.0"\n'


@given(JSON)
def test_json_is_written_as_the_standard_module_reads_it(value):
    assert json.loads(dumps(value)) == value
    assert loads(dumps(value)) == value


@given(st.binary() | st.text())
def test_what_is_no_json_is_refused_with_one_error(data):
    try:
        value = loads(data)
    except InvalidJson:
        return
    json.dumps(value)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{} {}", "[" * 100_000, "", "nul", '{"a" 1}', b"\xff"])
def test_doubtful_json_is_refused(text):
    with pytest.raises(InvalidJson):
        loads(text)


def test_flags_are_read_as_go_reads_them():
    arguments = Arguments(["-namespace", "ns", "--id=x", "-debug", "-v=false", "start"])
    assert (arguments.get("namespace"), arguments.get("id"), arguments.action) == ("ns", "x", "start")
    assert arguments.get("debug")
    assert not arguments.get("v")


@pytest.mark.parametrize("words", [["-id"], ["-what", "x"]])
def test_flags_that_make_no_sense_are_refused(words):
    with pytest.raises(UsageError):
        Arguments(words)


def test_the_socket_has_the_name_that_containerd_expects():
    # sha256 of "/run/containerd/containerd.sock/k8s.io/pod"
    expected = hashlib.sha256(b"/run/containerd/containerd.sock/k8s.io/pod").hexdigest()
    path = socket_path("/run/containerd/containerd.sock", "k8s.io", "pod")
    assert path == f"/run/containerd/s/{expected}"


def test_containers_of_a_pod_share_a_group():
    assert group_of({"io.kubernetes.cri.sandbox-id": "pod"}, "c1") == "pod"
    assert group_of({}, "c1") == "c1"


def test_request_ids_are_those_of_the_core():
    assert parse_request_id(fresh_request_id())
    assert fresh_request_id() != fresh_request_id()


def test_the_app_identity_is_the_one_that_the_agent_computes():
    assert app_config_id("pod", "container") == of_the_agent("pod", "container")


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize(
    "value",
    [base64.b64encode(TEXT).decode(), encode_annotation(TEXT), TEXT.decode()],
    ids=["plain", "gzip", "toml"],
)
def test_initdata_is_read_from_both_annotations_as_the_agent_reads_it(name, value):
    assert initdata_of({name: value}) == TEXT == decode_annotation(value)


def test_a_pod_without_initdata_has_none():
    assert initdata_of({}) == b""


@pytest.mark.parametrize(
    "value",
    [
        "%",
        "QQ=",
        base64.b64encode(b"\x1f\x8bnot gzip").decode(),
        base64.b64encode(gzip.compress(TEXT)[:-4]).decode(),
        base64.b64encode(gzip.compress(TEXT) + b"more").decode(),
        base64.b64encode(gzip.compress(bytes(2 << 20))).decode(),
        base64.b64encode(bytes(2 << 20)).decode(),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
    ids=["alphabet", "padding", "gzip", "truncated", "trailing", "bomb", "long", "encoding"],
)
def test_undecodable_initdata_is_refused(value):
    with pytest.raises(RefusedInitdata) as caught:
        initdata_of({ANNOTATIONS[0]: value})
    assert caught.value.reason.code == "initdata-invalid"


def test_two_different_initdata_are_refused():
    values = (base64.b64encode(TEXT).decode(), base64.b64encode(TEXT + b"#").decode())
    with pytest.raises(RefusedInitdata) as caught:
        initdata_of(dict(zip(ANNOTATIONS, values, strict=True)))
    assert caught.value.reason.code == "initdata-ambiguous"


@given(st.text())
def test_any_annotation_is_read_or_refused(value):
    try:
        initdata_of({ANNOTATIONS[1]: value})
    except RefusedInitdata:
        return


def test_settings_name_the_member_that_is_wrong(tmp_path):
    (tmp_path / "c").write_text('{"state": "relative"}')
    with pytest.raises(InvalidSettings, match="is not an absolute path"):
        Settings.read(str(tmp_path / "c"))


def test_the_agents_log_stays_bounded(tmp_path):
    log = AgentLog(str(tmp_path / "agent.log"))
    for _ in range(300):
        log.write(b"x" * 10_000)
    os.close(log.descriptor)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


def test_a_log_that_cannot_be_written_does_not_end_the_agents_output(tmp_path):
    log = AgentLog(str(tmp_path / "agent.log"))
    os.close(log.descriptor)
    log.descriptor = os.open("/dev/full", os.O_WRONLY)
    assert log.write(b"x" * 100) == 100
    os.close(log.descriptor)


def test_a_tree_may_be_deeper_than_calls_can_be_nested(tmp_path):
    deepest = os.open(tmp_path, os.O_PATH)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deepest)
        below = os.open("d", os.O_PATH, dir_fd=deepest)
        os.close(deepest)
        deepest = below
    os.close(deepest)
    remove_tree(str(tmp_path / "d"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "kind"), [("stdin", "absent"), ("stdin", "file"), ("stdout", "absent")])
def test_a_terminal_whose_streams_cannot_be_used_leaves_nothing_open(tmp_path, name, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    paths = {"stdin": str(tmp_path / "pipe"), "stdout": str(tmp_path / "pipe"), name: str(tmp_path / kind)}
    reactor = Reactor()
    before = sorted(Path("/proc/self/fd").iterdir())
    master, terminal = os.openpty()
    os.close(terminal)
    with pytest.raises(Failure):
        Console(reactor, master, Streams(**paths, stderr="", terminal=True))
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_trees_are_removed_without_following_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(outside)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "keep").exists()


def test_a_pump_waits_for_a_slow_reader_and_loses_nothing():
    reactor = Reactor()
    source, feed = os.pipe2(os.O_NONBLOCK)
    out, sink = os.pipe2(os.O_NONBLOCK)
    pump = Pump(reactor, source, into(sink), sink)
    sent, received = b"", b""
    payload = bytes(range(256)) * 2048
    while len(received) < len(payload):
        if len(sent) < len(payload):
            try:
                sent += payload[len(sent) : len(sent) + os.write(feed, payload[len(sent) :])]
            except BlockingIOError:
                pass
            else:
                if len(sent) == len(payload):
                    os.close(feed)
        reactor.soon(lambda: None)
        reactor.turn()
        try:
            received += os.read(out, 1000)
        except BlockingIOError:
            continue
    reactor.soon(lambda: None)
    reactor.turn()
    assert received == payload
    assert pump.ended.done
    os.close(out)


def test_a_noted_process_is_ended(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    boot_record.write(str(tmp_path / "boot.pid"), child.pid)
    started = time.monotonic()
    boot_record.end([str(tmp_path / "boot.pid")])
    assert child.wait(5) == -signal.SIGKILL
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("change", [{"start_time": 1}, {"machine_boot": "another"}])
def test_a_reused_pid_is_left_alone(tmp_path, change):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    note = tmp_path / "boot.pid"
    boot_record.write(str(note), child.pid)
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    boot_record.end([str(note)])
    assert child.poll() is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_damaged_note_ends_nothing(tmp_path, text):
    (tmp_path / "boot.pid").write_text(text)
    boot_record.end([str(tmp_path / "boot.pid"), str(tmp_path / "absent")])
