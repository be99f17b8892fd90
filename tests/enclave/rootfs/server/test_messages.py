"""What boot and server say to each other, and that neither takes anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.core.errors import InternalError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.server.messages import (
    MAX_MESSAGE_BYTES,
    Failed,
    Open,
    Opened,
    Poisoned,
    Prepare,
    from_bytes,
    to_bytes,
)
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable
from enclave_cc.formats.sealed.manifest import Binding

FINDING = Finding("rootfs.chunk", Outcome.FAILED, "sealed", "layer 2: chunk 17", "another node")
OPEN = Open(
    Path("/sealed/x"),
    bytes(range(32)),
    Binding("pod", "container", "sha256:aa"),
    Path("/bundle/rootfs"),
    Path("/work"),
    RootfsOptions(Writable.SCRATCH, 1 << 30, decrypt_to_memory=True),
)
MESSAGES = [OPEN, Prepare(Path("/w"), ("fuse-tree",)), Prepare(Path("/w")), Opened("x"), Poisoned(FINDING)]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_was_written_is_read(message):
    assert from_bytes(to_bytes(message)) == message


@pytest.mark.parametrize("kind", [InvalidInputError, RefusedError, UnavailableError, InternalError])
def test_an_error_arrives_whole(kind):
    sent = kind("code-of-it", "what failed", stage=Stage.MOUNT, detail="why", findings=(FINDING,))
    error = from_bytes(to_bytes(Failed(sent))).error
    assert type(error) is kind
    assert (error.code, error.summary, error.stage) == ("code-of-it", "what failed", Stage.MOUNT)
    assert (error.detail, error.findings) == ("why", (FINDING,))


def test_an_error_with_endless_texts_still_fits_and_keeps_its_first_finding():
    long = Finding("rule", Outcome.FAILED, *["\0" * 100_000] * 3)
    sent = RefusedError("code", "what", stage=Stage.MOUNT, detail="\0" * 100_000, findings=(long,) * 9)
    data = to_bytes(Failed(sent))
    assert len(data) <= MAX_MESSAGE_BYTES
    assert from_bytes(data).error.findings[0].rule == "rule"


def test_names_on_the_hosts_disk_need_not_be_text():
    sent = InternalError("internal", "what", stage=Stage.MOUNT, detail="/x/\udcff")
    assert from_bytes(to_bytes(Failed(sent))).error.detail == "/x/?"
    finding = Finding("rule", Outcome.FAILED, actual="\udcff")
    assert from_bytes(to_bytes(Poisoned(finding))).finding.actual == "?"


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_no_bytes_raise_anything_but_the_declared_error(data):
    with pytest.raises(ValueError):  # noqa: PT011 - the declared error is as wide as this
        from_bytes(data)


@given(st.data())
@settings(max_examples=50)
def test_a_damaged_message_is_read_as_another_one_or_refused(data):
    octets = bytearray(to_bytes(data.draw(st.sampled_from(MESSAGES))))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        from_bytes(bytes(octets))
    except ValueError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b'{"message":"opened","backend":"x","more":1}',
        b'{"message":"opened"}',
        b'{"message":"closed"}',
        b'{"message":"failed","kind":"KeyboardInterrupt","code":"","stage":"run","summary":"","detail":""}',
        b'{"message":"failed","kind":"RefusedError","code":"","stage":"x","summary":"","detail":""}',
        b'{"message":"open","binding":["a","b"]}',
        b'{"message":"poisoned"}',
    ],
)
def test_messages_that_nobody_sends_are_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011 - the declared error is as wide as this
        from_bytes(data)
