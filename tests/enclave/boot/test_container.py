"""Talking to runc: what it is told, and what of its words goes where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_cc.core.errors import InternalError, InvalidInputError
from enclave_cc.enclave.boot import container as module
from enclave_cc.enclave.boot.container import Container
from enclave_cc.enclave.boot.control import BootOrder

FAKE = """#!/bin/sh
echo "$@" >> {directory}/calls
case "$*" in *create*) {create} ;; esac
"""


@pytest.fixture
def order(tmp_path):
    (tmp_path / "work").mkdir()
    return BootOrder(
        request_id="R",
        pod_uid="pod",
        container_id="c1",
        agent_socket="",
        platform_socket="",
        sealed_image=tmp_path,
        initdata=None,
        bundle=tmp_path,
        rootfs=tmp_path,
        work=tmp_path / "work",
        runc=str(tmp_path / "runc"),
        runc_root=str(tmp_path / "root"),
        runc_log=str(tmp_path / "log.json"),
        systemd_cgroup=False,
        # With a console the standard streams of this process stay untouched.
        console_socket="/console",
        pid_file=tmp_path / "pid",
    )


def fake_runc(order, create):
    path = Path(order.runc)
    path.write_text(FAKE.format(directory=path.parent, create=create))
    path.chmod(0o755)


def calls(order):
    return (Path(order.runc).parent / "calls").read_text().splitlines()


def test_a_container_is_created_from_the_approved_specification(order):
    fake_runc(order, f"echo 77 > {order.pid_file}")
    assert Container(order).create({"ociVersion": "1"}) == 77
    assert json.loads((order.work / "config.json").read_text()) == {"ociVersion": "1"}
    (call,) = calls(order)
    assert call == (
        f"--root {order.runc_root} --log {order.runc_log} --log-format json create --bundle {order.work} "
        f"--pid-file {order.pid_file} --console-socket /console c1"
    )


def test_the_cgroup_driver_is_passed_on(order):
    fake_runc(order, f"echo 77 > {order.pid_file}")
    Container(replace(order, systemd_cgroup=True)).kill()
    assert "--systemd-cgroup kill --all c1 KILL" in calls(order)[0]


def test_runcs_words_are_for_the_owner_only(order):
    Path(order.runc_log).write_text("older words\n")
    fake_runc(order, f"echo 'no such file: /app/secret' >> {order.runc_log}; exit 1")
    with pytest.raises(InvalidInputError) as caught:
        Container(order).create({})
    assert caught.value.code == "container-create-failed"
    assert caught.value.detail == "no such file: /app/secret"
    assert "secret" not in str(caught.value)


def test_a_missing_runc_is_an_internal_fault(order):
    with pytest.raises(InternalError) as caught:
        Container(order).create({})
    assert caught.value.code == "runc-missing"


@pytest.mark.parametrize("create", [":", "echo x > {pid}"])
def test_a_pid_that_is_none_is_a_fault(order, create):
    fake_runc(order, create.format(pid=order.pid_file))
    with pytest.raises(InternalError):
        Container(order).create({})


def test_killing_and_deleting_what_is_gone_is_no_error(order):
    fake_runc(order, ":")
    Path(order.runc).write_text("#!/bin/sh\nexit 1\n")
    Container(order).kill()
    Container(order).delete()


def test_the_standard_streams_are_closed_even_if_some_are_closed_already(monkeypatch):
    closed = []

    def close(descriptor):
        closed.append(descriptor)
        raise OSError

    monkeypatch.setattr(module.os, "close", close)
    module.close_streams()
    assert closed == [4, 5, 6]
