"""The line between shim and boot: one order, answers without values, and an end that means stop."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.enclave.boot.control import MAX_LINE_BYTES, BootOrder, Control

ORDER = {
    "request_id": "R",
    "pod_uid": "pod",
    "container_id": "c1",
    "agent_socket": "/run/agent.sock",
    "platform_socket": "/run/platform.sock",
    "sealed_image": "/sealed/x",
    "initdata": "",
    "bundle": "/bundle",
    "rootfs": "/bundle/rootfs",
    "work": "/work-directory",
    "runc": "/usr/sbin/runc",
    "runc_root": "/run/runc",
    "runc_log": "/bundle/log.json",
    "systemd_cgroup": False,
    "console_socket": "",
    "pid_file": "/bundle/init.pid",
}


@pytest.fixture
def ends():
    shim, boot = socket.socketpair()
    with shim, boot:
        shim.settimeout(5)
        yield shim, Control(boot)


def test_an_order_is_read(ends):
    shim, control = ends
    shim.sendall(json.dumps(ORDER).encode() + b"\n")
    order = control.read_order()
    assert order.container_id == "c1"
    assert order.initdata is None
    assert str(order.work) == "/work-directory"


def test_an_order_may_come_in_pieces_and_with_more_behind_it(ends):
    shim, control = ends
    line = json.dumps(ORDER).encode() + b"\n"
    for piece in (line[:10], line[10:] + b'{"stop":'):
        shim.sendall(piece)
    assert control.read_order().pod_uid == "pod"
    shim.sendall(b"true}\n")
    assert control.is_told_to_stop()


def test_a_shim_that_hangs_up_gave_no_order(ends):
    shim, control = ends
    shim.close()
    assert control.read_order() is None
    assert control.is_told_to_stop()


@pytest.mark.parametrize("name", sorted(set(ORDER) - {"initdata", "console_socket", "systemd_cgroup"}))
def test_every_member_of_an_order_is_needed(name):
    with pytest.raises(InvalidInputError) as caught:
        BootOrder.parse(json.dumps({key: value for key, value in ORDER.items() if key != name}).encode())
    assert caught.value.code == "boot-order-invalid"


@pytest.mark.parametrize("name", ["sealed_image", "bundle", "rootfs", "work", "pid_file", "initdata"])
def test_relative_paths_are_refused(name):
    with pytest.raises(InvalidInputError):
        BootOrder.parse(json.dumps(ORDER | {name: "relative"}).encode())


@given(st.binary(max_size=200))
def test_no_line_raises_anything_but_the_declared_error(line):
    with pytest.raises(InvalidInputError) as caught:
        BootOrder.parse(line)
    assert caught.value.code == "boot-order-invalid"


def test_an_endless_line_is_refused():
    shim, boot = socket.socketpair()
    with shim, boot:
        import threading  # noqa: PLC0415

        def flood():
            try:
                while True:
                    shim.sendall(b"x" * MAX_LINE_BYTES)
            except OSError:
                return

        thread = threading.Thread(target=flood)
        thread.start()
        with pytest.raises(InvalidInputError):
            Control(boot).read_order()
        boot.close()
        thread.join(5)


def test_answers_have_no_values(ends):
    shim, control = ends
    control.started(7)
    control.failed(RefusedError("code", "what failed", stage=Stage.MOUNT, detail="secret"))
    control.poisoned("sealed-chunk-refused")
    lines = [json.loads(line) for line in shim.recv(65536).splitlines()]
    assert lines[0] == {"pid": 7}
    assert lines[1]["error"]["code"] == "code"
    assert set(lines[1]["error"]) == {"code", "stage", "summary", "remedy"}
    assert "secret" not in json.dumps(lines)
    assert lines[2] == {"event": "poisoned", "code": "sealed-chunk-refused"}


def test_a_shim_that_is_gone_stops_nobody_from_cleaning_up(ends):
    shim, control = ends
    shim.close()
    control.poisoned("x")
    control.poisoned("x")


@pytest.mark.parametrize(("line", "stops"), [(b'{"stop":true}\n', True), (b"{}\n", False), (b"x\n", True)])
def test_only_a_stop_or_nonsense_stops(ends, line, stops):
    shim, control = ends
    shim.sendall(line)
    assert control.is_told_to_stop() is stops


def test_a_line_that_never_ends_holds_nobody_up(ends):
    shim, control = ends
    shim.sendall(b'{"stop":')
    assert not control.is_told_to_stop()
    shim.sendall(b"true}\n")
    assert control.is_told_to_stop()


def test_a_stop_behind_another_line_is_heard(ends):
    shim, control = ends
    shim.sendall(b'{"hello":1}\n{"stop":true}\n')
    assert control.is_told_to_stop()


def test_an_endless_line_after_the_order_is_the_end(ends):
    shim, control = ends
    shim.sendall(b"x" * MAX_LINE_BYTES)
    told = [control.is_told_to_stop() for _ in range(8)]
    shim.sendall(b"xx")
    assert told[0] is False
    assert control.is_told_to_stop()
