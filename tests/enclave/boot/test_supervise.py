"""After the start: the shim's word ends it, damage ends the container first."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.boot.control import Control
from enclave_cc.enclave.boot.supervise import POISONED, Poison, supervise

FINDING = Finding("rootfs.chunk", Outcome.FAILED, "a", "b")
TEXTS = (
    "request_id",
    "pod_uid",
    "container_id",
    "agent_socket",
    "platform_socket",
    "runc",
    "runc_root",
    "runc_log",
)
PATHS = ("sealed_image", "bundle", "rootfs", "work", "pid_file")
ORDER = json.dumps(dict.fromkeys(TEXTS, "x") | dict.fromkeys(PATHS, "/x")).encode() + b"\n"


class Container:
    def __init__(self, events, error=None):
        self.events = events
        self.error = error

    def kill(self):
        self.events.append("killed")
        if self.error is not None:
            raise self.error


class Link:
    def __init__(self, events):
        self.events = events

    def refused(self, error):
        self.events.append(error)


@pytest.fixture
def scene():
    shim, boot = socket.socketpair()
    with shim, boot:
        shim.settimeout(5)
        yield shim, Control(boot)


def running(control, poison, container, link):
    thread = threading.Thread(target=supervise, args=(control, poison, container, link))
    thread.start()
    return thread


def test_the_end_of_the_line_is_the_end(scene):
    shim, control = scene
    thread = running(control, Poison(), None, None)
    shim.close()
    thread.join(5)
    assert not thread.is_alive()


def test_other_messages_are_no_end(scene):
    shim, control = scene
    thread = running(control, Poison(), None, None)
    shim.sendall(b'{"hello":1}\n')
    thread.join(0.2)
    assert thread.is_alive()
    shim.sendall(b'{"stop":true}\n')
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [None, UnavailableError("runc-timeout", "x", stage=Stage.RUN)])
def test_damage_is_told_to_the_owner_then_the_shim_and_kills_the_container(scene, error):
    shim, control = scene
    poison, events = Poison(), []
    thread = running(control, poison, Container(events, error), Link(events))
    poison.notice(FINDING)
    poison.notice(Finding("another", Outcome.FAILED))
    assert json.loads(shim.recv(4096)) == {"event": "poisoned", "code": POISONED}
    shim.sendall(b'{"stop":true}\n')
    thread.join(5)
    refusal, killed = events
    assert (refusal.code, refusal.findings, killed) == (POISONED, (FINDING,), "killed")


def test_a_stop_that_came_with_the_order_is_heard(scene):
    shim, control = scene
    shim.sendall(ORDER + b'{"stop":true}\n')
    assert control.read_order() is not None
    thread = running(control, Poison(), None, None)
    thread.join(5)
    assert not thread.is_alive()


def test_half_a_line_does_not_keep_damage_from_the_owner(scene):
    shim, control = scene
    poison, events = Poison(), []
    thread = running(control, poison, Container(events), Link(events))
    shim.sendall(b'{"stop":')
    thread.join(0.2)
    poison.notice(FINDING)
    assert json.loads(shim.recv(4096))["event"] == "poisoned"
    shim.sendall(b"true}\n")
    thread.join(5)
    assert events[1] == "killed"


@pytest.mark.parametrize(
    "error", [InvalidInputError("image-user-unknown", "x", stage=Stage.LAUNCH), OSError(5, "I/O error")]
)
def test_damage_explains_what_failed_because_of_it(error):
    poison = Poison()
    threading.Timer(0.02, poison.notice, (FINDING,)).start()
    with pytest.raises(RefusedError) as caught, poison.explaining():
        raise error
    assert (caught.value.code, caught.value.stage) == (POISONED, Stage.MOUNT)
    assert caught.value.findings == (FINDING,)


def test_without_damage_what_failed_stays_what_it_was():
    with pytest.raises(InvalidInputError), Poison().explaining():
        raise InvalidInputError("image-user-unknown", "x", stage=Stage.LAUNCH)
