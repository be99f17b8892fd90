"""After the start: the shim's word ends it, trouble with the root file system ends the container first."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.enclave.boot.control import Control
from enclave_cc.enclave.boot.supervise import supervise

DAMAGE = RefusedError("sealed-chunk-refused", "x", stage=Stage.MOUNT)
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


class Server:
    """Trouble becomes readable, and stays."""

    def __init__(self):
        self.ours, self.theirs = socket.socketpair()
        self.error = None

    def fileno(self):
        return self.ours.fileno()

    def goes_wrong(self, error):
        self.error = error
        self.theirs.send(b"!")

    def trouble(self):
        return self.error

    def close(self):
        self.ours.close()
        self.theirs.close()


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


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


def running(control, server, container, link):
    thread = threading.Thread(target=supervise, args=(control, server, container, link))
    thread.start()
    return thread


def test_the_end_of_the_line_is_the_end(scene, server):
    shim, control = scene
    thread = running(control, server, None, None)
    shim.close()
    thread.join(5)
    assert not thread.is_alive()


def test_other_messages_are_no_end(scene, server):
    shim, control = scene
    thread = running(control, server, None, None)
    shim.sendall(b'{"hello":1}\n')
    thread.join(0.2)
    assert thread.is_alive()
    shim.sendall(b'{"stop":true}\n')
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("trouble", [DAMAGE, UnavailableError("rootfs-server-ended", "x", stage=Stage.RUN)])
@pytest.mark.parametrize("error", [None, UnavailableError("runc-timeout", "x", stage=Stage.RUN)])
def test_trouble_is_told_to_the_owner_then_the_shim_and_kills_the_container(scene, server, trouble, error):
    shim, control = scene
    events = []
    thread = running(control, server, Container(events, error), Link(events))
    server.goes_wrong(trouble)
    assert json.loads(shim.recv(4096)) == {"event": "poisoned", "code": trouble.code}
    shim.sendall(b'{"stop":true}\n')
    thread.join(5)
    assert events == [trouble, "killed"]


def test_news_without_trouble_is_none(scene, server):
    shim, control = scene
    thread = running(control, server, None, None)
    server.goes_wrong(None)
    thread.join(0.1)
    assert thread.is_alive()
    shim.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_stop_that_came_with_the_order_is_heard(scene, server):
    shim, control = scene
    shim.sendall(ORDER + b'{"stop":true}\n')
    assert control.read_order() is not None
    thread = running(control, server, None, None)
    thread.join(5)
    assert not thread.is_alive()


def test_half_a_line_does_not_keep_damage_from_the_owner(scene, server):
    shim, control = scene
    events = []
    thread = running(control, server, Container(events), Link(events))
    shim.sendall(b'{"stop":')
    thread.join(0.2)
    server.goes_wrong(DAMAGE)
    assert json.loads(shim.recv(4096))["event"] == "poisoned"
    shim.sendall(b"true}\n")
    thread.join(5)
    assert events[1] == "killed"
