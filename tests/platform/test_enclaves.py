"""Records of launched enclaves: bound to one process and forgotten with it; the service itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.platform.conftest import Child
from tests.simulators.sgx_machine import IDENTITY

from enclave_cc.core.errors import RefusedError, UnavailableError
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.sgx import ReportBody
from enclave_cc.formats.sgx.report import Attribute
from enclave_cc.platform.simulated import enclaves, peer
from enclave_cc.platform.simulated.enclaves import Enclave, EnclaveRegistry, hold
from enclave_cc.platform.simulated.platform import SimulatedPlatform
from enclave_cc.platform.simulated.service import PlatformService
from enclave_cc.platform.simulated.state import PlatformState
from enclave_cc.transport.ttrpc_client import TtrpcClient
from enclave_cc.transport.ttrpc_server import TtrpcServer

ENCLAVE = Enclave(IDENTITY, b"")


class Clock:
    def __init__(self):
        self.now = dt.datetime.now(dt.UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def registry():
    made = EnclaveRegistry()
    yield made
    made.close()


def ended(process):
    process.kill()
    process.wait()


def test_a_record_of_an_ended_process_makes_room(registry, monkeypatch):
    monkeypatch.setattr(enclaves, "_MAX_ENCLAVES", 1)
    first, second = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        with hold(first.pid) as process:
            registry.record(process, ENCLAVE)
        with pytest.raises(UnavailableError), hold(second.pid) as process:
            registry.record(process, ENCLAVE)
        ended(first)
        with hold(second.pid) as process:
            registry.record(process, ENCLAVE)
    finally:
        ended(first)
        ended(second)


def test_a_process_that_ends_while_it_is_measured_is_not_recorded(registry, sleeper):
    with hold(sleeper.pid) as process:
        ended(sleeper)
        with pytest.raises(RefusedError):
            registry.record(process, ENCLAVE)
        process.close()


def test_a_process_with_another_start_time_is_another_process(sleeper):
    with hold(sleeper.pid) as process:
        assert process.alive
        assert not dataclasses.replace(process, start_time=process.start_time - 1).alive
        process.close()


def test_a_failed_launch_leaks_no_descriptor(sleeper):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ZeroDivisionError), hold(sleeper.pid):
        raise ZeroDivisionError
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_commands_name_cannot_forge_its_start_time(tmp_path):
    program = tmp_path / "x) R 1 1 1"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        assert peer.start_time(process.pid) > peer.start_time(1) >= 0
    finally:
        ended(process)


@pytest.fixture(params=[False, True])
def interop(request):
    return request.param


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def platform(tmp_path, clock, interop):
    made = SimulatedPlatform(PlatformState(tmp_path / "state", uid=os.geteuid()), clock, interop=interop)
    yield made
    made.enclaves.close()


def test_a_launched_process_has_its_identity_and_only_interop_hides_debug(
    platform, short_tmp, make_bundle, interop
):
    server = TtrpcServer(str(short_tmp / "p.sock"))
    server.add(PLATFORM_SERVICE, PlatformService(platform, launching_uid=os.geteuid()).handlers())
    server.start()
    child = Child(short_tmp / "p.sock")
    try:
        with TtrpcClient(str(short_tmp / "p.sock")) as client:
            request = {"pid": child.pid, "bundle": str(make_bundle()), "initdata": b"", "config_id": b""}
            measured = client.call(PLATFORM_SERVICE, "Launch", request)["mr_enclave"]
        body = ReportBody.parse(child.ask("identity"))
    finally:
        child.stop()
        server.stop()
    assert body.mr_enclave == measured
    assert bool(body.flags & Attribute.DEBUG) is not interop


def test_collateral_is_signed_anew_every_day_and_published(platform, clock, tmp_path):
    first = platform.collateral()
    assert platform.collateral() is first
    clock.now += dt.timedelta(days=1)
    second = platform.collateral()
    assert second != first
    assert (tmp_path / "state/public/collateral.json").read_bytes() == second.to_json()
