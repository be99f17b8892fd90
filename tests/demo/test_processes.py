"""Daemons become ready or say why not, and end when they are told."""

from __future__ import annotations

import sys

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.demo.scene.processes import Daemons, Program, free_port, listens_on_port, run


@pytest.fixture
def daemons(tmp_path):
    group = tmp_path / "cgroup.procs"
    group.touch()
    running = Daemons(tmp_path, group=group, mark={"MARK": "m"})
    yield running
    running.stop_all()


def _python(code, *, name="child", ready=lambda: False):
    return Program(name, (sys.executable, "-c", code), ready)


def test_a_daemon_that_listens_is_ready_and_carries_the_mark(daemons):
    port = free_port()
    code = (
        "import os, socket; print(os.environ['MARK'], flush=True)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "while True: s.accept()"
    )
    daemon = daemons.start(_python(code, ready=listens_on_port(port)))
    assert daemon.log.read_text() == "m\n"
    daemons.stop(daemon)
    assert daemon.process.returncode == -15


def test_a_daemon_that_ends_at_once_is_reported_with_its_last_words(daemons):
    with pytest.raises(UnavailableError, match="ended with status 3") as caught:
        daemons.start(_python("import sys; print('no such file', flush=True); sys.exit(3)"))
    assert caught.value.code == "daemon-not-ready"
    assert "no such file" in caught.value.detail


def test_a_daemon_that_never_becomes_ready_is_stopped(daemons):
    with pytest.raises(UnavailableError, match="in time"):
        daemons.start(_python("import time; time.sleep(60)"), ready_within_s=0.2)


def test_a_daemon_that_ignores_the_polite_signal_is_killed(daemons):
    port = free_port()
    code = (
        "import signal, socket; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "while True: s.accept()"
    )
    daemon = daemons.start(_python(code, ready=listens_on_port(port)))
    daemon.stop(within_s=0.2)
    assert daemon.process.returncode == -9


def test_a_program_that_fails_shows_its_words():
    with pytest.raises(UnavailableError, match="failed") as caught:
        run((sys.executable, "-c", "import sys; sys.exit('the reason')"), within_s=10)
    assert caught.value.code == "program-failed"
    assert "the reason" in caught.value.detail
